"""Delta actions: a real robot's arm joints are learned as differences to the state they start from.

SPEC_VLA section 1.12: `action -= state`, the same state for all T steps of a chunk, before normalisation; added back
after un-normalisation. Grippers stay absolute. Differences grow along the chunk, so their statistics are per step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.chunks import action_chunks
from model.data.normalization import ARRAYS, Statistics, StatisticsAccumulator
from model.errors import UserError

if TYPE_CHECKING:
    from model.robots import Robot


@dataclass(frozen=True)
class SubtractState:
    """Subtract state dimension `state_dims[i]` from action dimension `action_dims[i]`; the inverse adds it back."""

    action_dims: tuple[int, ...]
    state_dims: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.action_dims) != len(self.state_dims) or len(set(self.action_dims)) != len(self.action_dims):
            raise UserError(
                f"delta actions: {len(self.action_dims)} action and {len(self.state_dims)} state dimensions; each "
                "action dimension needs one state dimension and may be given once."
            )

    @classmethod
    def of(cls, robot: "Robot") -> "SubtractState | None":
        """That of a robot; None when all its actions are learned as they are."""
        pairs = robot.subtracted_dims
        return cls(*zip(*pairs, strict=True)) if pairs else None

    def __call__(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Actions [..., T, A] as differences to the state [..., S]; dimensions that are not listed pass."""
        return self._shift(actions, state, -1)

    def inverse(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Differences [..., T, A] as actions again."""
        return self._shift(actions, state, 1)

    def _shift(self, actions: np.ndarray, state: np.ndarray, sign: int) -> np.ndarray:
        moved = np.array(actions)
        moved[..., list(self.action_dims)] += sign * np.asarray(state)[..., None, list(self.state_dims)]
        return moved

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "SubtractState", "action": list(self.action_dims), "state": list(self.state_dims)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SubtractState":
        """Inverse of `to_json`."""
        return cls(tuple(map(int, data["action"])), tuple(map(int, data["state"])))


class StepStatistics:
    """Streams chunks [N, T, D] into `Statistics` of shape [T, D]: one accumulator a step, padded steps left out."""

    def __init__(self, horizon: int) -> None:
        self._steps = [StatisticsAccumulator("sketch") for _ in range(horizon)]

    def add(self, chunks: np.ndarray, padding: np.ndarray) -> None:
        """Take chunks [N, T, D] with padding bool [N, T], True where the episode was over."""
        for step, accumulator in enumerate(self._steps):
            accumulator.add(chunks[~padding[:, step], step])

    def merge(self, other: "StepStatistics") -> None:
        """Take everything that `other` has seen."""
        for ours, theirs in zip(self._steps, other._steps, strict=True):
            ours.merge(theirs)

    def result(self) -> Statistics:
        """Statistics [T, D]; `count` is that of the first step. A step that no episode reaches has those before it."""
        found: list[Statistics] = []
        for accumulator in self._steps:
            found.append(accumulator.result() if accumulator.count or not found else found[-1])
        stacked = {name: np.stack([getattr(step, name) for step in found]) for name in ARRAYS}
        return Statistics(count=found[0].count, **stacked)


def delta_statistics(
    episodes: Iterable[tuple[np.ndarray, np.ndarray]], horizon: int, subtract: SubtractState
) -> Statistics:
    """Statistics [T, A] of the chunks that begin at every frame of episodes (state [L, S], action [L, A])."""
    steps = StepStatistics(horizon)
    for state, action in episodes:
        chunks, padding = action_chunks(action, np.arange(len(action)), horizon)
        steps.add(subtract(chunks, state), padding)
    return steps.result()
