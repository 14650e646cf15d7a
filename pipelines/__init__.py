"""The DAGs, and the command line that triggers them."""
