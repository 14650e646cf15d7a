"""The step that records demonstrations in simulation."""
