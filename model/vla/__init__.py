"""LingBot-VLA: vision tower, two-stream transformer, flow matching and depth alignment. No mesh, dataset or checkpoint."""
