"""A part of a packed set, for studies of how much data is needed: fewer training episodes, everything else as it was.

Subsets of one seed are nested: a larger one holds every episode of a smaller one. Each holds the tasks in the shares
that the whole set has them in, so that the amount changes and the mixture does not. Held-out episodes stay as they are,
and the statistics are those of the episodes that are left: a policy of 80 demonstrations knows no others.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from model.data.normalization import StatisticsAccumulator
from model.data.packed_format import (
    FRAMES,
    STATISTICS,
    STEPS,
    TRAIN,
    PackedMeta,
    read_arrow,
    shard_name,
    write_arrow,
    write_json,
)
from model.data.packing_frames import SHARD_BYTES
from model.data.scenes import SCENES
from model.errors import UserError

Axis = Literal["share", "hours", "demonstrations"]
SUBSET = "subset.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Training episodes that were chosen. `hours` are theirs, `demonstrations` how many there are of each task."""

    episodes: tuple[int, ...]
    hours: float
    demonstrations: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TrainingEpisodes:
    """What can be chosen from: episode number -> its task's number, and its frames."""

    task_of: Mapping[int, int]
    frames_of: Mapping[int, int]
    tasks: tuple[str, ...]
    fps: float

    @classmethod
    def read(cls, packed: Path) -> "TrainingEpisodes":
        """Of a packed folder.

        Raises:
            UserError: it is not a packed folder.
        """
        meta, steps = PackedMeta.load(packed), read_arrow(packed / STEPS)
        chosen = steps["split"].astype(str) == TRAIN
        episodes, first, counts = np.unique(steps["episode"][chosen], return_index=True, return_counts=True)
        tasks = steps["task"][chosen][first]
        return cls(
            task_of=dict(zip(episodes.tolist(), tasks.tolist(), strict=True)),
            frames_of=dict(zip(episodes.tolist(), counts.tolist(), strict=True)),
            tasks=meta.tasks,
            fps=meta.fps,
        )

    def select(self, axis: Axis, amount: float, seed: int) -> Selection:
        """So many `demonstrations` of each task, `hours` (to the nearest whole episode), or a `share` of the hours.

        Raises:
            UserError: there are not so many, or so few are asked for that a task would have none.
        """
        ordered = self.order(seed)
        if axis == "demonstrations":
            chosen = [episode for members in ordered.values() for episode in members[: round(amount)]]
            for task, members in ordered.items():
                if len(members) < amount:
                    raise UserError(
                        f"{amount:g} demonstrations a task are asked for, '{self.tasks[task]}' has {len(members)} to "
                        "train on: ask for fewer, collect or ingest more episodes, or lower pack.holdout_fraction"
                    )
        else:
            total = self.hours(self.task_of)
            hours = amount * total if axis == "share" else amount
            # half of a frame: sums of hours are not exact
            if hours > total + 0.5 / self.fps / 3600:
                raise UserError(
                    f"{hours:g} hours are asked for, there are {total:.4g} to train on: ask for fewer, collect or "
                    "ingest more episodes, or lower pack.holdout_fraction"
                )
            chosen = self._prefix(ordered, hours)
        counts = {task: sum(self.task_of[episode] == task for episode in chosen) for task in ordered}
        missing = [self.tasks[task] for task, count in counts.items() if not count]
        if missing:
            raise UserError(
                f"{amount:g} {axis} hold no demonstration of '{missing[0]}' ({len(chosen)} episodes in all): "
                "ask for more, a policy learns nothing of a task that it never saw"
            )
        return Selection(
            episodes=tuple(sorted(chosen)),
            hours=self.hours(chosen),
            demonstrations={self.tasks[task]: count for task, count in counts.items()},
        )

    def order(self, seed: int) -> dict[int, list[int]]:
        """Task -> its episodes in the order in which they are taken, by the hash of (seed, episode) alone."""
        ordered: dict[int, list[int]] = {}
        for episode in sorted(self.task_of, key=lambda episode: _draw(seed, episode)):
            ordered.setdefault(self.task_of[episode], []).append(episode)
        return dict(sorted(ordered.items()))

    def hours(self, episodes: Iterable[int]) -> float:
        return sum(self.frames_of[episode] for episode in episodes) / self.fps / 3600

    def _prefix(self, ordered: Mapping[int, Sequence[int]], hours: float) -> list[int]:
        """The first episodes of all tasks, each task's at the same pace, whose hours come nearest to those asked."""
        paced = sorted(
            ((place + 0.5) / len(members), task, episode)
            for task, members in ordered.items()
            for place, episode in enumerate(members)
        )
        episodes = [episode for _, _, episode in paced]
        ends = np.cumsum([self.frames_of[episode] for episode in episodes])
        return episodes[: int(np.abs(ends - hours * 3600 * self.fps).argmin()) + 1]


def write_subset(packed: Path, output: Path, selection: Selection, facts: Mapping[str, Any]) -> PackedMeta:
    """Write the packed folder `output` with the selected training episodes and all held-out ones of `packed`.

    Args:
        facts: what was asked for; goes to subset.json with what was chosen.
    """
    meta, steps, places = PackedMeta.load(packed), read_arrow(packed / STEPS), read_arrow(packed / FRAMES)
    split = steps["split"].astype(str)
    kept = np.isin(steps["episode"], selection.episodes) | (split != TRAIN)
    # where each kept step comes to lie
    moved = np.cumsum(kept) - 1
    frames = {name: values[kept[places["step"]]] for name, values in places.items()}
    frames["step"] = moved[frames["step"]]
    files = _copy_frames(packed, output, meta, frames)
    write_arrow(output / FRAMES, frames)
    steps = {name: (split if name == "split" else values)[kept] for name, values in steps.items()}
    write_arrow(output / STEPS, steps)
    write_json(output / STATISTICS, {key: _statistics(steps, key) for key in ("state", "action")})
    training = steps["split"] == TRAIN
    held_out = len(np.unique(steps["episode"][~training]))
    smaller = replace(
        meta,
        files=files,
        has_goal=bool(steps["goal_mask"][training].any()),
        counts={
            **meta.counts,
            "episodes": len(selection.episodes) + held_out,
            "train_episodes": len(selection.episodes),
            "steps": len(training),
            "frames": len(frames["step"]),
        },
    )
    smaller.save(output)
    if (packed / SCENES).is_file():
        shutil.copyfile(packed / SCENES, output / SCENES)  # by episode number, and the numbers stay
    chosen = {
        "episodes": list(selection.episodes),
        "hours": selection.hours,
        "demonstrations": dict(selection.demonstrations),
    }
    write_json(output / SUBSET, {"schema_version": SCHEMA_VERSION, **facts, **chosen})
    return smaller


def _draw(seed: int, episode: int) -> bytes:
    return hashlib.sha256(f"subset {seed}:{episode}".encode()).digest()


def _statistics(steps: Mapping[str, np.ndarray], key: str) -> dict[str, Any]:
    """Of the training episodes, one after another as packing takes them, so that all of them give the same bits."""
    accumulator = StatisticsAccumulator()
    for episode in dict.fromkeys(steps["episode"][steps["split"] == TRAIN].tolist()):
        accumulator.add(steps[key][steps["episode"] == episode])
    return accumulator.result().to_json()


def _copy_frames(packed: Path, output: Path, meta: PackedMeta, frames: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Copies the images of the rows `frames`, episode by episode, and puts their new `file` and `offset` into it.

    Returns:
        the names of the files, in order.
    """
    for stale in output.glob("frames-*.bin"):
        stale.unlink()
    file, offset, size = frames["file"].copy(), frames["offset"].copy(), frames["size"]
    number, position = 0, 0
    target: BinaryIO = (output / shard_name(0)).open("wb")
    try:
        for episode in dict.fromkeys(frames["episode"].tolist()):
            rows = np.flatnonzero(frames["episode"] == episode)
            source, begin = int(frames["file"][rows].max()), int(frames["offset"][rows].min())
            length = int((frames["offset"][rows] + size[rows]).max()) - begin
            assert length == int(size[rows].sum(dtype=np.int64)), f"episode {episode} lies in pieces in {packed}"
            if position and position + length > SHARD_BYTES:
                target.close()
                number, position = number + 1, 0
                target = (output / shard_name(number)).open("wb")
            with (packed / meta.files[source]).open("rb") as images:
                images.seek(begin)
                _copy(images, target, length)
            file[rows] = number
            offset[rows] = frames["offset"][rows] - begin + position
            position += length
    finally:
        target.close()
    frames["file"], frames["offset"] = file, offset
    return tuple(shard_name(name) for name in range(number + 1))


def _copy(source: BinaryIO, target: BinaryIO, length: int, block: int = 2**22) -> None:
    while length > 0:
        data = source.read(min(block, length))
        assert data, "the image file ends before its table says"
        target.write(data)
        length -= len(data)
