"""Reading packed shards: random batches of images, states and action chunks, fast enough to feed training.

Decoding a 112 px JPEG takes about 0.25 ms, so 32 rows of 3 views cost some 25 ms of one core; `cache="ram"` decodes
each row once into an array and then costs a copy of 113 KB a row.
"""

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model.data.normalization import Statistics
from model.data.packed_format import (
    FRAMES,
    HOLDOUT,
    STATISTICS,
    STEPS,
    TRAIN,
    PackedMeta,
    decode_image,
    read_arrow,
    read_json,
)
from model.data.prefetch import Prefetcher
from model.errors import UserError, unknown_name

__all__ = ["PackedDataset", "PackedMeta", "Prefetcher"]

CACHE_BUDGET_BYTES = 3 * 2**29  # 1.5 GiB: 14,000 rows of three views at 112 px


class PackedDataset:
    """One packed folder, read only. `batch` is a pure function of its rows, and may be called from several threads.

    Attributes:
        meta: what the folder holds.
        statistics: of the training split, by key ("state", "action").
        frames: columns of the packed frames, each an array [N]: episode, frame, step, task, sub_task (int64), split
            ("train" or "holdout"), progress (frame / length of the episode, float32).
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
        self._steps = steps
        self._places = places
        self._shards = shards
        starts = np.flatnonzero(np.diff(steps["episode"], prepend=-1))
        self._ends = np.repeat(
            np.append(starts[1:], len(steps["episode"])), np.diff(starts, append=len(steps["episode"]))
        )
        self._bounds = {int(steps["episode"][start]): (int(start), int(self._ends[start])) for start in starts}
        at = places["step"]
        length = self._ends[at] - at + steps["frame"][at]
        self.frames: dict[str, np.ndarray] = {
            name: steps[name][at] for name in ("episode", "frame", "task", "sub_task", "split")
        } | {"step": at, "progress": (steps["frame"][at] / length).astype(np.float32)}
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
        return len(self._places["step"])

    @property
    def state_dim(self) -> int:
        """S, the robot's state dimensions."""
        return int(self._steps["state"].shape[1])

    @property
    def action_dim(self) -> int:
        """A, the robot's action dimensions."""
        return int(self._steps["action"].shape[1])

    @cached_property
    def goal_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the training split's goals (metres), over the frames that have one.

        Zeros and ones where there is no goal; a coordinate that never varies has deviation 1, to be divided by.
        """
        chosen = self._steps["goal_mask"] & (self._steps["split"] == TRAIN)
        if not chosen.any():
            return (0.0,) * 3, (1.0,) * 3
        goals = self._steps["goal"][chosen].astype(np.float64)
        std = goals.std(0)
        return tuple(goals.mean(0).tolist()), tuple(np.where(std > 0, std, 1.0).tolist())

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(V, H, W, 3)."""
        return len(self.meta.cameras), self.meta.image_size, self.meta.image_size, 3

    def rows(self, split: str = TRAIN, tasks: Sequence[int] | None = None) -> np.ndarray:
        """Numbers int64 of the packed frames of a split, and of the given tasks only if any are given."""
        if split not in (TRAIN, HOLDOUT):
            raise unknown_name("split", split, (TRAIN, HOLDOUT))
        chosen = self.frames["split"] == split
        if tasks is not None:
            chosen &= np.isin(self.frames["task"], np.asarray(tasks))
        return np.flatnonzero(chosen)

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        """The rows as arrays, in robot units.

        Returns:
            images u8 [B, V, H, W, 3] (zero where absent), image_mask bool [B, V], state f32 [B, S], actions f32
            [B, T, A] from the row's own frame on at `meta.fps` (the last one repeated past the end of the episode),
            action_pad bool [B, T] (True past the end), task and sub_task int64 [B], goal f32 [B, 3], goal_mask bool
            [B], episode and frame int64 [B].

        Raises:
            UserError: an image cannot be decoded; named by file, episode, frame and camera.
        """
        rows = np.asarray(rows)
        at = self._places["step"][rows]
        chunk = at[:, None] + np.arange(horizon)
        ends = self._ends[at][:, None]
        steps = self._steps
        return {
            "images": self.images(rows),
            "image_mask": self._places["size"][rows] > 0,
            "state": steps["state"][at],
            "actions": steps["action"][np.minimum(chunk, ends - 1)],
            "action_pad": chunk >= ends,
        } | {name: steps[name][at] for name in ("task", "sub_task", "goal", "goal_mask", "episode", "frame")}

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [B, V, H, W, 3] of packed frames, zero where a view is absent."""
        if self._decoded is None:
            images = np.zeros((len(rows), *self.image_shape), np.uint8)
            for place, row in enumerate(rows):
                self._decode(int(row), images[place])
            return images
        for row in np.unique(rows[~self._is_decoded[rows]]):
            self._decode(int(row), self._decoded[row])
            self._is_decoded[row] = True
        return self._decoded[rows]

    def episode(self, episode: int) -> dict[str, Any]:
        """One whole episode at `meta.fps`: state f32 [L, S], action f32 [L, A], task (number), split."""
        if episode not in self._bounds:
            raise UserError(f"episode {episode} is not in {self.folder}: it holds {len(self._bounds)} usable episodes.")
        start, end = self._bounds[episode]
        steps = self._steps
        return {
            "state": steps["state"][start:end],
            "action": steps["action"][start:end],
            "task": int(steps["task"][start]),
            "split": str(steps["split"][start]),
        }

    def episodes(self, split: str | None = None) -> tuple[int, ...]:
        """Numbers of the usable episodes, of one split if it is given."""
        return tuple(
            episode for episode, (start, _) in self._bounds.items() if split in (None, self._steps["split"][start])
        )

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

    def _decode(self, row: int, target: np.ndarray) -> None:
        """Decode the views of one row into uint8 [V, H, W, 3]; absent views are left as they are."""
        places = self._places
        for view in np.flatnonzero(places["size"][row]):
            number, offset = int(places["file"][row, view]), int(places["offset"][row, view])
            try:
                target[view] = decode_image(self._shards[number][offset : offset + int(places["size"][row, view])])
            except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on damaged bytes
                raise UserError(
                    f"{self.folder / self.meta.files[number]}: the image of episode {self.frames['episode'][row]}, "
                    f"frame {self.frames['frame'][row]}, {self.meta.cameras[view]} cannot be decoded ({error}); "
                    "pack the dataset again."
                ) from error


def _map(path: Path) -> mmap.mmap:
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"{path} is missing or empty; pack the dataset again.")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
