"""Runs the frozen depth teacher over the frames of a dataset and stores its tokens."""
