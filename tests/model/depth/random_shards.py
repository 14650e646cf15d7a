"""Shards of random tokens. It imports numpy and the writer alone, so that a process to be killed starts fast."""

from pathlib import Path

import numpy as np

from model.depth.writer import ShardWriter, StoreLayout

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


def layout(codec: str = "int8", tokens: int = 4, channels: int = 48) -> StoreLayout:
    return StoreLayout(
        cameras=CAMERAS, tokens_per_view=tokens, channels=channels, codec=codec, weights_digest="w",
        preprocessing_digest="p",
    )  # fmt: skip


def rows(count: int, like: StoreLayout, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens with a mean and scale of their own in every channel, mask and digest."""
    rng = np.random.default_rng(seed)
    shape = (count, len(like.cameras), like.tokens_per_view, like.channels)
    scale, shift = rng.uniform(0.5, 2, like.channels), rng.normal(size=like.channels)
    tokens = (rng.normal(size=shape) * scale + shift).astype(np.float32)
    return tokens, rng.random((count, len(like.cameras))) > 0.2, rng.integers(0, 256, (count, 32)).astype(np.uint8)


def write_shard(
    store: Path, like: StoreLayout, first: int, frames: int, batch: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Episodes `first` and `first + 1`, every second frame."""
    tokens, mask, digest = rows(2 * frames, like, first)
    episode, frame = np.repeat([first, first + 1], frames), np.tile(2 * np.arange(frames), 2)
    with ShardWriter(store=store, layout=like, first=first, last=first + 1, rows=2 * frames) as writer:
        for start in range(0, 2 * frames, batch):
            part = slice(start, start + batch)
            writer.add(episode[part], frame[part], tokens[part], mask[part], digest[part])
        writer.finish()
    return tokens, mask
