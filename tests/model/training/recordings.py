"""Robots' recordings as packed sets give them, and the builders and mixtures of them that tests train on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from model.bundle import prepare
from model.config import preset
from model.data.delta import SubtractState, delta_statistics
from model.data.normalization import Statistics, StatisticsAccumulator
from model.data.sampler import FrameSampler
from model.data.text import InstructionTokenizer
from model.robots import Robot, load_robot
from model.training.batches import Augmentation, BatchBuilder
from model.training.mixture import Mixture, Part, views_by_role

CONFIG = replace(preset("debug"), views=3, depth=None, goal=None)
TASKS = ("lift the cube", "pick the bottle", "place the pear")
TOKENIZER = InstructionTokenizer.train(TASKS, CONFIG.text.vocab_size)
ROBOTS = ("aloha_sim", "unitree_g1_inspire", "gr1")
BATCH = 12


@dataclass
class Recording:
    """Frames of one robot: what differs between robots, and nothing else. `read` are the rows that were asked for."""

    robot: Robot
    seed: int
    length: int = 20
    read: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        dims = len(self.robot.action_names)
        self.state = random.normal(size=(self.length, dims)).astype(np.float32)
        self.action = np.concatenate([self.state[1:], self.state[-1:]])

    def statistics(self) -> dict[str, Statistics]:
        found = {}
        for key, values in (("state", self.state), ("action", self.action)):
            accumulator = StatisticsAccumulator()
            accumulator.add(values)
            found[key] = accumulator.result()
        if subtract := SubtractState.of(self.robot):
            found["action"] = delta_statistics([(self.state, self.action)], CONFIG.horizon, subtract)
        return found

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        self.read += rows.tolist()
        views, size = len(self.robot.cameras), CONFIG.vision.image_size
        at = rows[:, None] + np.arange(horizon)
        return {
            "images": np.full((len(rows), views, size, size, 3), 40 + self.seed, np.uint8),
            "image_mask": np.ones((len(rows), views), bool),
            "state": self.state[rows],
            "actions": self.action[np.minimum(at, self.length - 1)],
            "action_pad": at >= self.length,
            "task": np.full(len(rows), self.seed),
            "sub_task": np.where(rows % 3 == 0, -1, rows % 2),  # every third frame is not annotated
            "task_text": np.where(rows < 10, -1, 0),  # of the second episode alone
            "goal": np.zeros((len(rows), 3), np.float32),
            "goal_mask": np.zeros(len(rows), bool),
            "episode": np.zeros(len(rows), np.int64),
            "frame": rows,
        }


def part(name: str, number: int, weight: float = 1.0, **changes: Any) -> Part:
    """A robot's recording as a part of a mixture; `changes` are fields of its builder."""
    robot = load_robot(name)
    recording = Recording(robot, number)
    prepared = prepare(
        robot=robot, cameras=tuple(robot.cameras.values()), statistics=recording.statistics(), mode="meanstd",
        dimensions=CONFIG.dimensions, goal_mean=(0.0,) * 3, goal_std=(1.0,) * 3, tokenizer=TOKENIZER, control_hz=10.0,
        tasks=TASKS,
    )  # fmt: skip
    rows = np.arange(recording.length)
    builder = BatchBuilder(
        config=CONFIG, frames=recording, tokenizer=TOKENIZER, tasks=TASKS, state=prepared.state, action=prepared.action,
        sampler=FrameSampler(
            rows=rows, early=rows < 5, tasks=np.full(len(rows), number), early_share=0.0, task_weights={number: 1.0},
            batch_size=BATCH, seed=number,
        ),
        goal_mean=np.zeros(3), goal_std=np.ones(3), augmentation=Augmentation(), tokens=None, token_mean=None,
        token_std=None, subtract=prepared.subtract, name=name,
    )  # fmt: skip
    views = views_by_role(robot, prepared.cameras)
    return Part(name=name, builder=replace(builder, **changes), views=views, weight=weight)


def mixed(batch_size: int = BATCH, weights: Sequence[float] = (2.0, 1.0, 1.0), **changes: Any) -> Mixture:
    """The three robots in one policy's batches."""
    parts = enumerate(zip(ROBOTS, weights, strict=True))
    return Mixture(
        parts=tuple(part(name, number, weight, **changes) for number, (name, weight) in parts), batch_size=batch_size
    )
