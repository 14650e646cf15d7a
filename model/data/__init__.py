"""Datasets: reading, transforming, packing and loading them."""
