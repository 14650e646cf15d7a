"""Shards of random tokens. It imports numpy and the writer alone, so that a process to be killed starts fast."""

from pathlib import Path

import numpy as np

from model.depth.finish import finish_store
from model.depth.pca import fit_basis
from model.depth.writer import ShardWriter, StoreLayout, finished_shard

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


def layout(codec: str = "int8", tokens: int = 4, channels: int = 136) -> StoreLayout:
    basis = None
    if codec == "pca128-int8":
        basis = fit_basis(np.random.default_rng(9).normal(size=(2 * channels, channels)).astype(np.float32), 128)
    return StoreLayout(
        cameras=CAMERAS, tokens_per_view=tokens, channels=channels, codec=codec, weights_digest="w",
        preprocessing_digest="p", basis=basis,
    )  # fmt: skip


def rows(count: int, like: StoreLayout, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens with a mean and scale of their own in every channel, mask and digest."""
    rng = np.random.default_rng(seed)
    shape = (count, len(like.cameras), like.tokens_per_view, like.channels)
    scale, shift = rng.uniform(0.5, 2, like.channels), rng.normal(size=like.channels)
    tokens = (rng.normal(size=shape) * scale + shift).astype(np.float32)
    mask = rng.random((count, len(like.cameras))) > 0.2
    return tokens, mask, rng.integers(0, 256, (*mask.shape, 32)).astype(np.uint8)


def extract_all(store: Path, shards: int = 10, frames: int = 20) -> None:
    """What an attempt does: the shards that are not finished yet, then the end. From 10 on episodes repeat others."""
    like = layout(tokens=16)
    spans = [(first, first + 1, 2 * frames) for first in range(0, 2 * shards, 2)]
    for span in spans:
        if finished_shard(store, like, *span) is None:
            write_shard(store, like, span[0], frames, repeats=shards)
    finish_store(store, like, spans, {"teacher": {"weights_digest": "w"}, "preprocessing": {}, "rate": 10.0})


def write_shard(
    store: Path, like: StoreLayout, first: int, frames: int, batch: int = 5, repeats: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Episodes `first` and `first + 1`, every second frame; the same frames again every `repeats` episodes."""
    tokens, mask, digest = rows(2 * frames, like, first if repeats is None else first % repeats)
    episode, frame = np.repeat([first, first + 1], frames), np.tile(2 * np.arange(frames), 2)
    with ShardWriter(store=store, layout=like, first=first, last=first + 1, rows=2 * frames) as writer:
        for start in range(0, 2 * frames, batch):
            part = slice(start, start + batch)
            writer.add(episode[part], frame[part], tokens[part], mask[part], digest[part])
        writer.finish()
    return tokens, mask
