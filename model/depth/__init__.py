"""LingBot-Depth: the RGB-D encoder whose tokens the policy is aligned to, and the store that keeps those tokens."""
