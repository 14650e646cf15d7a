"""The step `validate`: what is wrong with a dataset, and which episodes are left out for it."""
