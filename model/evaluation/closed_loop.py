"""Closed-loop evaluation in simulation: which trials are run, by what actor, under which instruction.

Every condition runs the same seeds, so that conditions are compared pair by pair. Seeds below one million belong to
evaluation alone: collection draws its scenes from one million upwards, so no evaluated scene was ever demonstrated.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.errors import UserError, unknown_name
from model.evaluation.actors import Actor, PolicyActor, ReplayActor
from model.evaluation.latency import latency_of
from model.evaluation.records import ERROR, FAILURE, SUCCESS, TrialRecord
from model.evaluation.served import ServedActor
from model.evaluation.trial import Pace, run_trial

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.simulation.environment import Simulation

EVALUATION_SEEDS = range(1_000_000)
SIMULATOR = "aloha_mujoco"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One column of the evaluation: what acts, whose scene and success count, whose instruction is given.

    `randomised` scenes have other light, colours, camera poses, and distractors.
    """

    actor: str
    scene: str = "task"
    instruction: str = "task"
    randomised: bool = False


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
SUITE = {
    "clean": Condition(actor="policy"),
    "randomised": Condition(actor="policy", randomised=True),
}
"""The conditions under which each task of the suite is tried."""
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
    randomised: bool = False

    @property
    def key(self) -> tuple[str, str, str, str, int | str]:
        """Equal to the key of the record that this job leads to."""
        return (self.condition, self.actor, self.task, self.instruction, self.seed)


def plan(conditions: Sequence[str], *, task: str, other_task: str, trials: int, first_seed: int = 0) -> tuple[Job, ...]:
    """Every trial of the named conditions, in the order in which they are worth watching."""
    from model.simulation.tasks import find_task

    seeds = evaluation_seeds(trials, first_seed)
    if task == other_task:
        raise UserError(f"other_task is '{task}' like task: name another task, it tells whether language matters")
    names = {"task": find_task(task), "other": find_task(other_task)}
    jobs = []
    for condition in conditions:
        known = {**CONDITIONS, **SUITE}
        if condition not in known:
            raise unknown_name("condition", condition, known)
        kind = known[condition]
        scene, told = names[kind.scene].name, names[kind.instruction].instruction
        jobs += [_job(condition, kind, scene, told, seed) for seed in seeds]
    return tuple(jobs)


def plan_suite(
    tasks: Sequence[str], *, trials: int, first_seed: int = 0, conditions: Sequence[str] = tuple(SUITE)
) -> tuple[Job, ...]:
    """Every trial of a suite: each task under each condition of `SUITE`, on the same seeds.

    Raises:
        UserError: an unknown or repeated task or condition, or seeds that are collected for training.
    """
    from model.simulation.tasks import find_task

    seeds = evaluation_seeds(trials, first_seed)
    for kind, names in (("task", tasks), ("condition", conditions)):
        for name in names:
            if list(names).count(name) > 1:
                raise UserError(f"the suite names the {kind} {name} more than once: name each once")
    jobs = []
    for task in map(find_task, tasks):
        for condition in conditions:
            if condition not in SUITE:
                raise unknown_name("condition of the suite", condition, SUITE)
            jobs += [_job(condition, SUITE[condition], task.name, task.instruction, seed) for seed in seeds]
    return tuple(jobs)


def evaluation_seeds(trials: int, first_seed: int) -> range:
    """The seeds of `trials` scenes. UserError when one of them may be demonstrated."""
    if trials < 1 or first_seed not in EVALUATION_SEEDS or first_seed + trials > EVALUATION_SEEDS.stop:
        raise UserError(
            f"seeds {first_seed} to {first_seed + trials - 1} cannot be evaluated: take one or more from 0 to "
            f"{EVALUATION_SEEDS.stop - 1}, because scenes from {EVALUATION_SEEDS.stop} are collected for training"
        )
    return range(first_seed, first_seed + trials)


def _job(condition: str, kind: Condition, task: str, instruction: str, seed: int) -> Job:
    return Job(
        condition=condition,
        actor=kind.actor,
        task=task,
        instruction=instruction,
        seed=seed,
        randomised=kind.randomised,
    )


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
    """One worker's equipment: the bundle, its baselines and one simulation a task and condition, made when needed.

    `make_simulation` takes a task's name and `randomise`. With `server`, what is called the policy is asked there.
    """

    def __init__(
        self,
        bundle: "Bundle",
        make_simulation: Callable[..., "Simulation"],
        *,
        trajectory: np.ndarray | None,
        pace: Pace,
        max_seconds: float = 0.0,
        num_steps: int | None = None,
        server: str = "",
        key: str = "",
    ) -> None:
        self._bundle = bundle
        self._make_simulation = make_simulation
        self._trajectory = trajectory
        self._pace = pace
        self._max_seconds = max_seconds
        self._num_steps = num_steps
        self._server = server
        self._key = key
        self._actors: dict[str, Actor] = {}
        self._simulations: dict[tuple[str, bool], Simulation] = {}

    def run(self, job: Job, watch: Callable[["Simulation"], None] | None = None) -> TrialRecord:
        """Run one trial. The same job gives the same record, whatever was run before it."""
        place = (job.task, job.randomised)
        if place not in self._simulations:
            self._simulations[place] = self._make_simulation(job.task, randomise=job.randomised)
        simulation, actor = self._simulations[place], self._actor(job.actor)
        limit = self._max_seconds or simulation.task.max_seconds
        outcome = run_trial(
            simulation,
            actor,
            seed=job.seed,
            instruction=job.instruction,
            checkpoints=simulation.task.checkpoints,
            pace=self._pace,
            max_steps=round(limit * simulation.fps),
            robot=self._bundle.robot,
            watch=watch,
        )
        failed = ERROR if outcome.lost else FAILURE
        return TrialRecord(
            condition=job.condition,
            policy=job.actor,
            bundle_digest=self._bundle.digest,
            model_version=actor.model_version if isinstance(actor, ServedActor) else "",
            task=job.task,
            instruction=job.instruction,
            robot=self._bundle.robot.id,
            seed=job.seed,
            checkpoints=outcome.checkpoints,
            outcome=failed if outcome.reason else SUCCESS,
            reason=outcome.reason,
            seconds=outcome.seconds,
            looks=outcome.looks,
            client_latency_ms=latency_of(actor.latencies()) if isinstance(actor, ServedActor) else None,
            violations=outcome.violations,
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
        for actor in self._actors.values():
            if isinstance(actor, ServedActor):
                actor.close()

    def _actor(self, name: str) -> Actor:
        if name not in self._actors:
            self._actors[name] = self._make_actor(name)
        return self._actors[name]

    def _make_actor(self, name: str) -> Actor:
        if name == "mean_replay":
            assert self._trajectory is not None, "a plan with mean_replay needs the trajectory"
            return ReplayActor(self._trajectory)
        cameras = self._bundle.contract["cameras"]
        if name == "policy" and self._server:
            names = tuple(camera["name"] for camera in cameras)
            return ServedActor(self._server, names, bundle_digest=self._bundle.digest, key=self._key)
        if name == "untrained":
            return PolicyActor(self._bundle.untrained(), cameras, num_steps=self._num_steps)
        assert name in ("policy", "blank_images"), name
        return PolicyActor(self._bundle, cameras, blank=name == "blank_images", num_steps=self._num_steps)


@dataclass(frozen=True, kw_only=True)
class Rig:
    """How a worker process sets up its bench. It crosses process borders, so it holds a path and not a model.

    Attributes:
        execute_steps: control steps of a chunk between two looks.
        max_seconds: time limit of a trial; 0 keeps each task's own.
        trajectory: [L, A], what `mean_replay` replays.
        latency_ms: simulated time from a look to its chunk; what was executed before goes on meanwhile.
        real_time: real-time chunking: a new chunk continues the running one.
        server: ws:// address of the endpoint that answers for the policy; empty: in process.
        key: the endpoint's key, where it wants one.
    """

    bundle: Path
    execute_steps: int
    max_seconds: float = 0.0
    num_steps: int | None = None
    trajectory: np.ndarray | None = None
    latency_ms: float = 0.0
    real_time: bool = False
    server: str = ""
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.latency_ms) and self.latency_ms >= 0):
            raise UserError(f"a latency of {self.latency_ms} ms cannot be: give 0 or more")
        if not (math.isfinite(self.max_seconds) and self.max_seconds >= 0):
            raise UserError(f"a trial of at most {self.max_seconds} s cannot be: give more than 0, or 0 for the task's")
        if self.server and not self.server.startswith(("ws://", "wss://")):
            raise UserError(
                f"the server's address '{self.server}' must begin with ws:// or wss://: ws://127.0.0.1:8000"
            )
        if self.server and self.num_steps:
            raise UserError("the Euler steps are the server's own: leave out num_steps or the server")

    def pace(self, bundle: "Bundle") -> Pace:
        """What the chunks of this bundle bear, checked. UserError when they do not."""
        # A latency of exactly n control steps is n, whatever the last bit says.
        steps = math.ceil(self.latency_ms / 1000 * bundle.contract["control_hz"] - 1e-9)
        pace = Pace(execute_steps=self.execute_steps, latency_steps=steps, real_time=self.real_time)
        pace.check(bundle.contract["horizon"])
        return pace

    def open(self) -> Bench:
        from model.bundle import load_bundle
        from model.simulation.environment import Simulation

        bundle = load_bundle(self.bundle, verify=False)
        cameras = bundle.contract["cameras"]

        def make_simulation(task: str, *, randomise: bool) -> Simulation:
            return Simulation(
                task,
                image_size=cameras[0]["height"],
                fps=int(bundle.contract["control_hz"]),
                cameras=[camera["name"] for camera in cameras],
                randomise=randomise,
            )

        return Bench(
            bundle,
            make_simulation,
            trajectory=self.trajectory,
            pace=self.pace(bundle),
            max_seconds=self.max_seconds,
            num_steps=self.num_steps,
            server=self.server,
            key=self.key,
        )

    def digest(self, bundle_digest: str) -> str:
        """Digest of all that a trial's result depends on beside its job: trials of another digest cannot be reused."""
        hashed = hashlib.sha256()
        settings = [bundle_digest, self.execute_steps, self.max_seconds, self.num_steps]
        settings += [self.latency_ms, self.real_time, self.server]
        hashed.update(json.dumps(settings).encode())
        if self.trajectory is not None:
            hashed.update(np.ascontiguousarray(self.trajectory).tobytes())
        return hashed.hexdigest()
