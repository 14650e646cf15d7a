"""The step `pack`: usable episodes to training-size frames, tables and statistics."""
