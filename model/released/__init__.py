"""Checkpoints in the layouts of others: LingBot-VLA's released directories and Qwen2.5-VL's.

Here are files, folders and settings. The names of single tensors are in `model/vla/released.py`.
"""
