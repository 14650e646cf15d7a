"""Packing, the numbers: the table of steps (state, action, split, texts, hindsight goal) and its statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.data.goals import POSITION_OF_SIDE, gripper_side, hindsight_goals
from model.data.normalization import Statistics, StatisticsAccumulator
from model.data.packed_format import TRAIN

if TYPE_CHECKING:
    from model.data.lerobot import EpisodeArrays
    from model.robots import Robot

NO_TEXT = -1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """An annotated stretch of an episode: frames start to end (exclusive), and the sentences of it, "" for none.

    `task` is that of the whole episode: an episode's segments have the same.
    """

    start: int
    end: int
    sub_task: str
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The sentences of the episodes, sorted; their numbers are their places.

    `tasks` are the dataset's own, `sub_tasks` and `task_texts` annotated ones, of segments and of whole episodes.
    """

    tasks: tuple[str, ...]
    sub_tasks: tuple[str, ...]
    task_texts: tuple[str, ...]


def list_texts(arrays: Mapping[int, "EpisodeArrays"], segments: Mapping[int, Sequence[Segment]]) -> Texts:
    """The texts of these episodes."""
    tasks = {entry.task for entry in arrays.values()}
    sub_tasks = {part.sub_task for episode in arrays for part in segments.get(episode, ())} - {""}
    written = {_task_text(entry.task, segments.get(episode, ())) for episode, entry in arrays.items()} - {""}
    return Texts(tasks=tuple(sorted(tasks)), sub_tasks=tuple(sorted(sub_tasks)), task_texts=tuple(sorted(written)))


def training_statistics(arrays: Mapping[int, "EpisodeArrays"], split: Mapping[int, str]) -> dict[str, Statistics]:
    """State and action of the training split alone: held-out episodes must not shape what they are to judge."""
    state, action = StatisticsAccumulator(), StatisticsAccumulator()
    for episode, entry in arrays.items():
        if split[episode] == TRAIN:
            state.add(entry.state)
            action.add(entry.action)
    return {"state": state.result(), "action": action.result()}


def step_columns(
    arrays: Mapping[int, "EpisodeArrays"],
    *,
    robot: "Robot",
    split: Mapping[int, str],
    texts: Texts,
    segments: Mapping[int, Sequence[Segment]],
) -> dict[str, np.ndarray]:
    """The columns of steps.arrow: one row a frame, episodes in the order of `arrays`."""
    columns: dict[str, list[np.ndarray]] = {}
    for episode, entry in arrays.items():
        length = len(entry.state)
        goal, goal_mask = episode_goals(entry, robot)
        row = {
            "episode": np.full(length, episode, np.int64),
            "frame": np.arange(length, dtype=np.int64),
            "task": np.full(length, texts.tasks.index(entry.task), np.int64),
            "sub_task": _sub_task_numbers(length, segments.get(episode, ()), texts.sub_tasks),
            "task_text": np.full(length, _number(_task_text(entry.task, segments.get(episode, ())), texts.task_texts)),
            "split": np.full(length, split[episode]),
            "state": entry.state,
            "action": entry.action,
            "goal": goal,
            "goal_mask": goal_mask,
        }
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
    return {name: np.concatenate(blocks) for name, blocks in columns.items()}


def episode_goals(entry: "EpisodeArrays", robot: "Robot") -> tuple[np.ndarray, np.ndarray]:
    """Hindsight goals f32 [L, 3] and mask [L] of an episode: none without a recorded pose or a gripper of a known side.

    The commanded opening says when a gripper closes: the measured one stops at the object's width.
    """
    sides = {dim: side for dim in robot.gripper_dims if (side := gripper_side(robot, dim)) is not None}
    if entry.eef_pose is None or not sides:
        return np.zeros((len(entry.state), 3), np.float32), np.zeros(len(entry.state), bool)
    opening = np.stack([robot.opening(dim, entry.action[:, dim]) for dim in sides], axis=1)
    position = np.stack([entry.eef_pose[:, POSITION_OF_SIDE[side]] for side in sides.values()], axis=1)
    return hindsight_goals(opening, position)


def _sub_task_numbers(length: int, segments: Sequence[Segment], sub_tasks: Sequence[str]) -> np.ndarray:
    numbers = np.full(length, NO_TEXT, np.int64)
    for segment in segments:
        numbers[segment.start : segment.end] = _number(segment.sub_task, sub_tasks)
    return numbers


def _task_text(task: str, segments: Sequence[Segment]) -> str:
    """What was annotated for the whole episode; "" where that says no more than the dataset's own `task`."""
    text = segments[0].task if segments else ""
    return "" if text == task else text


def _number(text: str, texts: Sequence[str]) -> int:
    return texts.index(text) if text else NO_TEXT
