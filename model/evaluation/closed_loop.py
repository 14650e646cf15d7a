"""Closed-loop evaluation in simulation: which trials are run, by what actor, under which instruction.

Every condition runs the same seeds, so that conditions are compared pair by pair. Seeds below one million belong to
evaluation alone: collection draws its scenes from one million upwards, so no evaluated scene was ever demonstrated.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.errors import UserError, unknown_name
from model.evaluation.actors import Actor, PolicyActor, ReplayActor
from model.evaluation.records import FAILURE, SUCCESS, TrialRecord
from model.evaluation.trial import run_trial

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.simulation.environment import Simulation

EVALUATION_SEEDS = range(1_000_000)
SIMULATOR = "aloha_mujoco"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One column of the evaluation: what acts, whose scene and success count, whose instruction is given."""

    actor: str
    scene: str = "task"
    instruction: str = "task"


CONDITIONS = {
    "policy": Condition(actor="policy"),
    "mean_replay": Condition(actor="mean_replay"),
    "untrained": Condition(actor="untrained"),
    "blank_images": Condition(actor="blank_images"),
    "other_task": Condition(actor="policy", scene="other", instruction="other"),
    "swapped": Condition(actor="policy", instruction="other"),
    "swapped_other": Condition(actor="policy", scene="other", instruction="task"),
}
BASELINES = ("mean_replay", "untrained", "blank_images")
LANGUAGE = {"swapped": "policy", "swapped_other": "other_task"}
"""Each condition with the wrong instruction, and the one with the right instruction in the same scenes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial to run: a condition resolved to a task, an instruction and a seed."""

    condition: str
    actor: str
    task: str
    instruction: str
    seed: int

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """Equal to the key of the record that this job leads to."""
        return (self.condition, self.actor, self.task, self.instruction, self.seed)


def plan(conditions: Sequence[str], *, task: str, other_task: str, trials: int, first_seed: int = 0) -> tuple[Job, ...]:
    """Every trial of the named conditions, in the order in which they are worth watching."""
    from model.simulation.tasks import find_task

    if trials < 1 or first_seed not in EVALUATION_SEEDS or first_seed + trials > EVALUATION_SEEDS.stop:
        raise UserError(
            f"seeds {first_seed} to {first_seed + trials - 1} cannot be evaluated: take one or more from 0 to "
            f"{EVALUATION_SEEDS.stop - 1}, because scenes from {EVALUATION_SEEDS.stop} are collected for training"
        )
    if task == other_task:
        raise UserError(f"other_task is '{task}' like task: name another task, it tells whether language matters")
    names = {"task": find_task(task), "other": find_task(other_task)}
    jobs = []
    for condition in conditions:
        if condition not in CONDITIONS:
            raise unknown_name("condition", condition, CONDITIONS)
        kind = CONDITIONS[condition]
        jobs += [
            Job(
                condition=condition,
                actor=kind.actor,
                task=names[kind.scene].name,
                instruction=names[kind.instruction].instruction,
                seed=seed,
            )
            for seed in range(first_seed, first_seed + trials)
        ]
    return tuple(jobs)


def obstacle(bundle: "Bundle", *, simulators: Sequence[str] = (SIMULATOR,)) -> str | None:
    """Why a bundle's robot cannot be tried closed loop here, or None when it can."""
    from model.simulation.scene import CAMERAS

    robot = bundle.robot
    if robot.simulator not in simulators:
        return f"robot '{robot.id}' has no simulator here"
    cameras = bundle.contract["cameras"]
    missing = [camera["name"] for camera in cameras if camera["name"] not in CAMERAS]
    if missing:
        return f"the simulator has no camera {', '.join(missing)}: it has {', '.join(CAMERAS)}"
    sizes = sorted({size for camera in cameras for size in (camera["height"], camera["width"])})
    if len(sizes) != 1:
        return f"the simulator renders square images of one size, the policy wants sides of {sizes} pixels"
    return None


class Bench:
    """One worker's equipment: the bundle, its baselines and one simulation a task, made when first needed."""

    def __init__(
        self,
        bundle: "Bundle",
        make_simulation: Callable[[str], "Simulation"],
        *,
        trajectory: np.ndarray | None,
        execute_steps: int,
        max_seconds: float = 0.0,
        num_steps: int | None = None,
    ) -> None:
        self._bundle = bundle
        self._make_simulation = make_simulation
        self._trajectory = trajectory
        self._execute_steps = execute_steps
        self._max_seconds = max_seconds
        self._num_steps = num_steps
        self._actors: dict[str, Actor] = {}
        self._simulations: dict[str, Simulation] = {}

    def run(self, job: Job, watch: Callable[["Simulation"], None] | None = None) -> TrialRecord:
        """Run one trial. The same job gives the same record, whatever was run before it."""
        if job.task not in self._simulations:
            self._simulations[job.task] = self._make_simulation(job.task)
        simulation = self._simulations[job.task]
        limit = self._max_seconds or simulation.task.max_seconds
        outcome = run_trial(
            simulation,
            self._actor(job.actor),
            seed=job.seed,
            instruction=job.instruction,
            checkpoints=simulation.task.checkpoints,
            execute_steps=self._execute_steps,
            max_steps=round(limit * simulation.fps),
            watch=watch,
        )
        return TrialRecord(
            condition=job.condition,
            policy=job.actor,
            bundle_digest=self._bundle.digest,
            task=job.task,
            instruction=job.instruction,
            robot=self._bundle.robot.id,
            seed=job.seed,
            checkpoints=outcome.checkpoints,
            outcome=FAILURE if outcome.reason else SUCCESS,
            reason=outcome.reason,
            seconds=outcome.seconds,
            looks=outcome.looks,
        )

    def film(self, job: Job) -> tuple[TrialRecord, list[dict[str, np.ndarray]]]:
        """Run one trial and keep the images of every control step, the first before any action."""
        frames: list[dict[str, np.ndarray]] = []
        record = self.run(job, watch=lambda simulation: frames.append(simulation.observe()["images"]))
        return record, frames

    def close(self) -> None:
        for simulation in self._simulations.values():
            simulation.close()
        self._simulations.clear()

    def _actor(self, name: str) -> Actor:
        if name not in self._actors:
            self._actors[name] = self._make_actor(name)
        return self._actors[name]

    def _make_actor(self, name: str) -> Actor:
        if name == "mean_replay":
            assert self._trajectory is not None, "a plan with mean_replay needs the trajectory"
            return ReplayActor(self._trajectory)
        cameras = self._bundle.contract["cameras"]
        if name == "untrained":
            return PolicyActor(self._bundle.untrained(), cameras, num_steps=self._num_steps)
        assert name in ("policy", "blank_images"), name
        return PolicyActor(self._bundle, cameras, blank=name == "blank_images", num_steps=self._num_steps)


@dataclass(frozen=True, kw_only=True)
class Rig:
    """How a worker process sets up its bench. It crosses process borders, so it holds a path and not a model.

    `max_seconds` 0 keeps each task's own time limit. `trajectory` [L, A] is what `mean_replay` replays.
    """

    bundle: Path
    execute_steps: int
    max_seconds: float = 0.0
    num_steps: int | None = None
    trajectory: np.ndarray | None = None

    def open(self) -> Bench:
        from model.bundle import load_bundle
        from model.simulation.environment import Simulation

        bundle = load_bundle(self.bundle, verify=False)
        cameras = bundle.contract["cameras"]

        def make_simulation(task: str) -> Simulation:
            return Simulation(
                task,
                image_size=cameras[0]["height"],
                fps=int(bundle.contract["control_hz"]),
                cameras=[camera["name"] for camera in cameras],
            )

        return Bench(
            bundle,
            make_simulation,
            trajectory=self.trajectory,
            execute_steps=self.execute_steps,
            max_seconds=self.max_seconds,
            num_steps=self.num_steps,
        )

    def digest(self, bundle_digest: str) -> str:
        """Digest of all that a trial's result depends on beside its job: trials of another digest cannot be reused."""
        hashed = hashlib.sha256()
        settings = [bundle_digest, self.execute_steps, self.max_seconds, self.num_steps]
        hashed.update(json.dumps(settings).encode())
        if self.trajectory is not None:
            hashed.update(np.ascontiguousarray(self.trajectory).tobytes())
        return hashed.hexdigest()
