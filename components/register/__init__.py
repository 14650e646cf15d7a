"""The step that registers an exported policy as a model version."""
