"""The table of steps: states, actions and labels of every frame of every usable episode, and batches cut from it.

Packed and unpacked datasets share it, so both give the same batches but for where the images come from.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from model.data.packed_format import HOLDOUT, TRAIN
from model.errors import UserError, unknown_name

LABELS = ("task", "sub_task", "task_text", "goal", "goal_mask", "episode", "frame")


class StepTable:
    """Columns of steps.arrow, and the rows of it that have images.

    Args:
        where: the dataset, for messages.
        steps: the columns, episodes one after another, frames in order.
        at: int64 [N], the steps that have images.

    Attributes:
        frames: columns of those N: episode, frame, step, task, sub_task (int64), split ("train" or "holdout"),
            progress (frame / length of the episode, float32).
    """

    def __init__(self, where: str, steps: Mapping[str, np.ndarray], at: np.ndarray) -> None:
        self.where = where
        self.steps = steps
        starts = np.flatnonzero(np.diff(steps["episode"], prepend=-1))
        stops = np.append(starts[1:], len(steps["episode"]))
        self._ends = np.repeat(stops, stops - starts)
        self.bounds = {
            int(steps["episode"][start]): (int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)
        }
        length = self._ends[at] - at + steps["frame"][at]
        self.frames: dict[str, np.ndarray] = {
            name: steps[name][at] for name in ("episode", "frame", "task", "sub_task", "split")
        } | {"step": at, "progress": (steps["frame"][at] / length).astype(np.float32)}

    def __len__(self) -> int:
        return len(self.frames["step"])

    @property
    def state_dim(self) -> int:
        """S, the robot's state dimensions."""
        return int(self.steps["state"].shape[1])

    @property
    def action_dim(self) -> int:
        """A, the robot's action dimensions."""
        return int(self.steps["action"].shape[1])

    @cached_property
    def goal_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the training split's goals (metres), over the frames that have one.

        Zeros and ones where there is no goal; a coordinate that never varies has deviation 1, to be divided by.
        """
        chosen = self.steps["goal_mask"] & (self.steps["split"] == TRAIN)
        if not chosen.any():
            return (0.0,) * 3, (1.0,) * 3
        goals = self.steps["goal"][chosen].astype(np.float64)
        std = goals.std(0)
        return tuple(goals.mean(0).tolist()), tuple(np.where(std > 0, std, 1.0).tolist())

    def rows(self, split: str = TRAIN, tasks: Sequence[int] | None = None) -> np.ndarray:
        """Numbers int64 of the frames of a split, and of the given tasks only if any are given."""
        if split not in (TRAIN, HOLDOUT):
            raise unknown_name("split", split, (TRAIN, HOLDOUT))
        chosen = self.frames["split"] == split
        if tasks is not None:
            chosen &= np.isin(self.frames["task"], np.asarray(tasks))
        return np.flatnonzero(chosen)

    def numbers(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        """Everything of a batch but its images, in robot units.

        Returns:
            state f32 [B, S], actions f32 [B, T, A] from the row's own frame on at the dataset's rate (the last one
            repeated past the end of the episode), action_pad bool [B, T] (True past the end), task, sub_task and
            task_text int64 [B], goal f32 [B, 3], goal_mask bool [B], episode and frame int64 [B].
        """
        at = self.frames["step"][rows]
        chunk = at[:, None] + np.arange(horizon)
        ends = self._ends[at][:, None]
        return {
            "state": self.steps["state"][at],
            "actions": self.steps["action"][np.minimum(chunk, ends - 1)],
            "action_pad": chunk >= ends,
        } | {name: self.steps[name][at] for name in LABELS}

    def episode(self, episode: int) -> dict[str, Any]:
        """One whole episode at the dataset's rate: state f32 [L, S], action f32 [L, A], task (number), split."""
        if episode not in self.bounds:
            raise UserError(f"episode {episode} is not in {self.where}: it holds {len(self.bounds)} usable episodes.")
        start, end = self.bounds[episode]
        return {
            "state": self.steps["state"][start:end],
            "action": self.steps["action"][start:end],
            "task": int(self.steps["task"][start]),
            "split": str(self.steps["split"][start]),
        }

    def episodes(self, split: str | None = None) -> tuple[int, ...]:
        """Numbers of the usable episodes, of one split if it is given."""
        return tuple(
            episode for episode, (start, _) in self.bounds.items() if split in (None, self.steps["split"][start])
        )
