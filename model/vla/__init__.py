"""LingBot-VLA: vision tower, two-stream transformer, flow matching, depth alignment. No mesh, dataset or checkpoint."""
