"""Training of the policy: batches, optimiser, checkpoints and the loop."""
