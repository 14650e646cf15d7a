"""Reading packed shards: random batches of images, states and action chunks, fast enough to feed training.

Shards are mapped, so what stays in memory is the kernel's to drop; this object holds the tables, the cache if one is
asked for, and the batch in hand (`memory`). Decoding is CPU: 0.2 to 0.5 ms for a JPEG of 224 px (frame_codecs), off the
interpreter's lock, so `Prefetcher(workers=2)` uses two cores. `cache="ram"` decodes each row once.
"""

import mmap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model.data.bad_samples import SampleError
from model.data.frame_codecs import DAMAGED, frame_codec
from model.data.normalization import Statistics
from model.data.packed_format import (
    FRAMES,
    HOLDOUT,
    STATISTICS,
    STEPS,
    TRAIN,
    PackedMeta,
    read_arrow,
    read_json,
)
from model.data.packing_tables import NO_TEXT
from model.data.prefetch import Prefetcher
from model.data.step_table import StepTable
from model.errors import UserError, unknown_name

__all__ = ["PackedDataset", "PackedMeta", "Prefetcher"]

CACHE_BUDGET_BYTES = 3 * 2**29  # 1.5 GiB: 14,000 rows of three views at 112 px


class PackedDataset:
    """One packed folder, read only. `batch` is a pure function of its rows, and may be called from several threads.

    Attributes:
        meta: what the folder holds.
        statistics: of the training split, by key ("state", "action").
        table: the steps, and which of them have images.
        cache_note: one sentence on whether images are cached.
    """

    def __init__(
        self,
        *,
        folder: Path,
        meta: PackedMeta,
        statistics: dict[str, Statistics],
        steps: dict[str, np.ndarray],
        places: dict[str, np.ndarray],
        shards: list[mmap.mmap],
        cache: str,
        cache_budget: int,
    ) -> None:
        self.folder = folder
        self.meta = meta
        self.statistics = statistics
        self.table = StepTable(str(folder), steps, places["step"])
        self._places = places
        self._shards = shards
        self._codec = frame_codec(meta.codec, jpeg_quality=meta.jpeg_quality, video_crf=meta.video_crf)
        self._decoded, self._is_decoded, self.cache_note = self._make_cache(cache, cache_budget)

    @classmethod
    def open(
        cls, path: str | Path, *, cache: Literal["none", "ram"] = "none", cache_budget: int = CACHE_BUDGET_BYTES
    ) -> "PackedDataset":
        """Open a packed folder.

        Args:
            path: the folder.
            cache: "ram" keeps each image decoded after its first use, if all of them fit `cache_budget` bytes.
            cache_budget: bytes.

        Raises:
            UserError: the folder is not a packed dataset, is of another schema version, or lacks bytes.
        """
        folder = Path(path)
        if cache not in ("none", "ram"):
            raise unknown_name("cache", cache, ("none", "ram"))
        meta = PackedMeta.load(folder)
        steps, places = read_arrow(folder / STEPS), read_arrow(folder / FRAMES)
        steps["split"] = steps["split"].astype(f"<U{len(HOLDOUT)}")
        steps.setdefault("task_text", np.full(len(steps["task"]), NO_TEXT))  # schema 2
        shards = [_map(folder / name) for name in meta.files]
        for number, (name, shard) in enumerate(zip(meta.files, shards, strict=True)):
            last = (places["offset"] + places["size"])[places["file"] == number]
            expected = int(last.max(initial=0))
            if len(shard) != expected:
                raise UserError(
                    f"{folder / name} has {len(shard)} bytes, {FRAMES} says {expected}; pack the dataset again."
                )
        data = read_json(folder / STATISTICS)
        return cls(
            folder=folder,
            meta=meta,
            statistics={key: Statistics.from_json(value) for key, value in data.items()},
            steps=steps,
            places=places,
            shards=shards,
            cache=cache,
            cache_budget=cache_budget,
        )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def frames(self) -> dict[str, np.ndarray]:
        """Columns [N] of the packed frames: episode, frame, step, task, sub_task, split, progress (StepTable)."""
        return self.table.frames

    @property
    def state_dim(self) -> int:
        """S, the robot's state dimensions."""
        return self.table.state_dim

    @property
    def action_dim(self) -> int:
        """A, the robot's action dimensions."""
        return self.table.action_dim

    @property
    def goal_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the training split's goals (StepTable)."""
        return self.table.goal_statistics

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(V, H, W, 3)."""
        return len(self.meta.cameras), self.meta.image_size, self.meta.image_size, 3

    @property
    def memory(self) -> dict[str, int]:
        """Bytes that this object holds at most beside the batches it gives: tables, and the cache when all of it is
        filled. Mapped shards are the kernel's page cache and are not counted."""
        tables = (*self.table.steps.values(), *self.table.frames.values(), *self._places.values())
        cache = 0 if self._decoded is None else self._decoded.nbytes
        return {"tables": sum(values.nbytes for values in tables), "cache": cache}

    def rows(self, split: str = TRAIN, tasks: Sequence[int] | None = None) -> np.ndarray:
        """Numbers int64 of the packed frames of a split, and of the given tasks only if any are given."""
        return self.table.rows(split, tasks)

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        """The rows as arrays, in robot units.

        Returns:
            images u8 [B, V, H, W, 3] (zero where absent), image_mask bool [B, V], and what `StepTable.numbers` gives:
            state, actions, action_pad, task, sub_task, task_text, goal, goal_mask, episode, frame.

        Raises:
            SampleError: an image cannot be decoded; named by file, episode, frame and camera.
        """
        rows = np.asarray(rows)
        images = {"images": self.images(rows), "image_mask": self._places["size"][rows] > 0}
        return images | self.table.numbers(rows, horizon)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [B, V, H, W, 3] of packed frames, zero where a view is absent."""
        rows = np.asarray(rows)
        if self._decoded is None:
            images = np.zeros((len(rows), *self.image_shape), np.uint8)
            self._decode_all(rows, images)
            return images
        missing = np.unique(rows[~self._is_decoded[rows]])
        for row in missing:
            self._decode(int(row), self._decoded[row])
            self._is_decoded[row] = True
        return self._decoded[rows]

    def episode(self, episode: int) -> dict[str, Any]:
        """One whole episode at `meta.fps`: state f32 [L, S], action f32 [L, A], task (number), split."""
        return self.table.episode(episode)

    def episodes(self, split: str | None = None) -> tuple[int, ...]:
        """Numbers of the usable episodes, of one split if it is given."""
        return self.table.episodes(split)

    def _make_cache(self, cache: str, budget: int) -> tuple[np.ndarray | None, np.ndarray, str]:
        needed = len(self) * int(np.prod(self.image_shape))
        figures = f"{needed / 2**30:.2f} GiB decoded, budget {budget / 2**30:.2f} GiB"
        flags = np.zeros(len(self), bool)
        if cache == "none":
            return None, flags, "images are decoded each time they are used"
        if needed > budget:
            return None, flags, f"images are decoded each time they are used: they do not fit ({figures})"
        # zeros are mapped lazily: memory grows with the rows that were used
        return np.zeros((len(self), *self.image_shape), np.uint8), flags, f"images are kept in memory ({figures})"

    def _decode_all(self, rows: np.ndarray, images: np.ndarray) -> None:
        """Decode rows into uint8 [B, V, H, W, 3], in the order of their bytes: by file, then by place in it.

        The kernel is told of all of them first, so that it fetches the next while this one is decoded.
        """
        size, offset = self._places["size"][rows], self._places["offset"][rows]
        first = np.where(size > 0, offset, np.iinfo(np.int64).max).min(1)
        file = self._places["file"][rows].max(1)
        order = np.lexsort((first, file))
        for place in order:
            start = int(first[place]) // mmap.PAGESIZE * mmap.PAGESIZE
            stop = int((offset[place] + size[place]).max())
            if start < stop:
                self._shards[int(file[place])].madvise(mmap.MADV_WILLNEED, start, stop - start)
        for place in order:
            self._decode(int(rows[place]), images[place])

    def _decode(self, row: int, target: np.ndarray) -> None:
        """Decode the views of one row into uint8 [V, H, W, 3]; absent views are left as they are."""
        before = int(self.frames["frame"][row]) // self.meta.stride % self._codec.group
        for view in np.flatnonzero(self._places["size"][row]):
            try:
                chunks = [self._bytes(earlier, int(view)) for earlier in range(row - before, row + 1)]
                self._codec.decode(chunks, target[view])
            except DAMAGED as error:
                episode, frame = int(self.frames["episode"][row]), int(self.frames["frame"][row])
                camera = self.meta.cameras[view]
                raise SampleError(
                    f"{self.folder / self.meta.files[int(self._places['file'][row, view])]}: the image of episode "
                    f"{episode}, frame {frame}, {camera} cannot be decoded ({error}); pack the dataset again.",
                    episode,
                    frame,
                    camera,
                ) from error

    def _bytes(self, row: int, view: int) -> bytes:
        """What is stored of one view of a row. ValueError when it is not what was written."""
        places = self._places
        offset, size = int(places["offset"][row, view]), int(places["size"][row, view])
        data = self._shards[int(places["file"][row, view])][offset : offset + size]
        if "crc" in places and zlib.crc32(data) != int(places["crc"][row, view]):
            raise ValueError("its bytes are not those that were packed")
        return data


def _map(path: Path) -> mmap.mmap:
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"{path} is missing or empty; pack the dataset again.")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
