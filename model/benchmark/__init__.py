"""Measured speed of the policy: what a training step and an inference cost here, beside the machine's matrix rate."""
