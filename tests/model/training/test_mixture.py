"""One batch that mixes robots: 1 and 3 views; 14, 26 and 44 dimensions. It trains, and losses stay apart."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle import prepare, seeded_policy
from model.config import preset
from model.data.delta import SubtractState, delta_statistics
from model.data.normalization import Statistics, StatisticsAccumulator
from model.data.sampler import FrameSampler
from model.data.text import InstructionTokenizer
from model.errors import UserError
from model.progress import Silent
from model.robots import Robot, load_robot
from model.training.batches import Augmentation, BatchBuilder
from model.training.checkpoint import Checkpoints
from model.training.loop import TrainingConfig, train
from model.training.mixture import Mixture, Part, views_by_role
from model.vla.policy import Inputs, Targets

CONFIG = replace(preset("debug"), views=3, depth=None, goal=None)
TASKS = ("lift the cube", "pick the bottle", "place the pear")
TOKENIZER = InstructionTokenizer.train(TASKS, CONFIG.text.vocab_size)
ROBOTS = ("aloha_sim", "unitree_g1_inspire", "gr1")
BATCH = 12


@dataclass
class Recording:
    """Frames of one robot, as a packed set gives them: what differs between robots, and nothing else."""

    robot: Robot
    seed: int
    length: int = 20

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
        views, size = len(self.robot.cameras), CONFIG.vision.image_size
        at = rows[:, None] + np.arange(horizon)
        return {
            "images": np.full((len(rows), views, size, size, 3), 40 + self.seed, np.uint8),
            "image_mask": np.ones((len(rows), views), bool),
            "state": self.state[rows],
            "actions": self.action[np.minimum(at, self.length - 1)],
            "action_pad": at >= self.length,
            "task": np.full(len(rows), self.seed),
            "goal": np.zeros((len(rows), 3), np.float32),
            "goal_mask": np.zeros(len(rows), bool),
            "episode": np.zeros(len(rows), np.int64),
            "frame": rows,
        }


def part(name: str, number: int, weight: float = 1.0) -> Part:
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
        token_std=None, subtract=prepared.subtract,
    )  # fmt: skip
    return Part(name=name, builder=builder, views=views_by_role(robot, prepared.cameras), weight=weight)


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    weights = zip(ROBOTS, (2.0, 1.0, 1.0), strict=True)
    parts = tuple(part(name, number, weight) for number, (name, weight) in enumerate(weights))
    return Mixture(parts=parts, batch_size=BATCH, seed=7)


def losses(inputs: Inputs, targets: Targets, seed: int = 0) -> float:
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn((len(inputs.state), 1, CONFIG.horizon, CONFIG.dimensions), generator=random)
    s = torch.rand((len(inputs.state), 1), generator=random)
    with torch.no_grad():
        return float(seeded_policy(CONFIG, 0).losses(inputs, targets, noise, s)["action"])


def test_a_batch_holds_every_robot_in_its_own_views_and_dimensions(mixture: Mixture) -> None:
    inputs, targets = mixture(3)
    counts = mixture.counts(3)
    assert counts.sum() == BATCH == len(inputs.state) and (counts > 0).all()
    assert inputs.images.shape[1] == 3
    robot_of = np.repeat(np.arange(3), counts)
    views = inputs.image_mask.numpy()
    assert (views[robot_of == 0] == [True, True, True]).all()
    assert (views[robot_of > 0] == [True, False, False]).all()
    for number, name in enumerate(ROBOTS):
        mine = torch.from_numpy(robot_of == number)
        expected = torch.from_numpy(load_robot(name).action_mask)
        assert expected.sum() == (14, 26, 44)[number]
        assert (targets.dimension_mask[mine] == expected).all()
        assert not targets.actions[mine][..., ~expected].any() and not inputs.state[mine][..., ~expected].any()
    assert not inputs.images[~inputs.image_mask].any()


def test_losses_are_of_each_robots_own_dimensions_and_views(mixture: Mixture) -> None:
    inputs, targets = mixture(3)
    before = losses(inputs, targets)
    # errors elsewhere, padded steps and absent views are nobody's: the targets and pixels there change nothing
    foreign = ~targets.dimension_mask[:, None, :] | ~targets.step_mask[:, :, None]
    pixels = torch.where(inputs.image_mask[:, :, None, None, None], inputs.images, 255)
    assert losses(replace(inputs, images=pixels), targets) == pytest.approx(before, rel=1e-5)
    policy = seeded_policy(CONFIG, 0)
    actions = targets.actions.clone().requires_grad_()
    noise = torch.randn((BATCH, 1, CONFIG.horizon, CONFIG.dimensions), generator=torch.Generator().manual_seed(0))
    error = policy.losses(inputs, replace(targets, actions=actions), noise, torch.zeros(BATCH, 1))["action"]
    (gradient,) = torch.autograd.grad(error, actions)
    assert gradient[~foreign].abs().min() > 0
    assert not gradient[foreign].any()


def test_the_loss_of_the_mixture_is_that_of_its_parts(mixture: Mixture) -> None:
    """By number of used values: no robot's sample leaks into another's."""
    inputs, targets = mixture(5)
    ends = np.cumsum(mixture.counts(5))
    noise = torch.randn((BATCH, 1, CONFIG.horizon, CONFIG.dimensions), generator=torch.Generator().manual_seed(1))
    s = torch.rand((BATCH, 1), generator=torch.Generator().manual_seed(2))
    policy = seeded_policy(CONFIG, 0)
    total = used = 0.0
    with torch.no_grad():
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            mine = slice(start, end)
            names = ("images", "image_mask", "tokens", "token_mask", "state")
            one = Inputs(**{name: getattr(inputs, name)[mine] for name in names})
            goals = {"goal": targets.goal[mine], "goal_mask": targets.goal_mask[mine]}  # type: ignore[index]
            mask = targets.step_mask[mine], targets.dimension_mask[mine]
            aim = Targets(actions=targets.actions[mine], step_mask=mask[0], dimension_mask=mask[1], **goals)
            values = float((mask[0][:, :, None] & mask[1][:, None, :]).sum())
            total += values * float(policy.losses(one, aim, noise[mine], s[mine])["action"])
            used += values
        whole = float(policy.losses(inputs, targets, noise, s)["action"])
    assert whole == pytest.approx(total / used, rel=1e-4)


def test_weights_are_the_shares_and_steps_repeat(mixture: Mixture) -> None:
    counts = np.sum([mixture.counts(step) for step in range(400)], axis=0)
    np.testing.assert_allclose(counts / counts.sum(), np.array([0.5, 0.25, 0.25]), atol=0.02)
    first, again = mixture(9), mixture(9)
    assert torch.equal(first[0].images, again[0].images) and torch.equal(first[1].actions, again[1].actions)


def test_it_trains(mixture: Mixture, tmp_path: Path) -> None:
    config = TrainingConfig(
        steps=8, batch_size=BATCH, draws=1, warmup_steps=1, learning_rate=1e-2, precision="fp32", log_every=1,
        save_every=100,
    )  # fmt: skip
    policy = seeded_policy(CONFIG, 0).train()
    train(
        policy, lambda step: mixture(0), config, checkpoints=Checkpoints(tmp_path / "checkpoints"), facts={"a": 1},
        metrics=tmp_path / "metrics.jsonl", progress=Silent(),
    )  # fmt: skip
    values = [json.loads(line)["action"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(values[-2:]) < 0.9 * sum(values[:2])


def test_faults_are_named(mixture: Mixture) -> None:
    with pytest.raises(UserError, match="camera 'cam_top' has no role"):
        views_by_role(load_robot("gr1"), ("cam_top",))
    with pytest.raises(UserError, match=r"gr1: its cameras take views \[3\], the policy has 0 to 2"):
        replace(mixture.parts[2], views=(3,))
    with pytest.raises(UserError, match="weight is 0"):
        replace(mixture.parts[2], weight=0.0)
    with pytest.raises(UserError, match="no part"):
        Mixture(parts=(), batch_size=2, seed=0)
    other = replace(mixture.parts[1], builder=replace(mixture.parts[1].builder, config=replace(CONFIG, horizon=3)))
    with pytest.raises(UserError, match="are built for different policies"):
        Mixture(parts=(mixture.parts[0], other), batch_size=2, seed=0)
    with pytest.raises(UserError, match="its sampler draws 12 rows, the step needs 40"):
        Mixture(parts=mixture.parts[:1], batch_size=40, seed=0)(0)
