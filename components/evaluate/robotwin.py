"""A policy behind our endpoint as a policy of RoboTwin 2.0: RoboTwin imports this module by its name.

RoboTwin calls `get_model(usr_args)` once, `reset_model(model)` before each trial, and `eval(TASK_ENV, model,
observation)` until the trial succeeded or its actions are used up. Programs that drive a policy themselves call its
`set_language`, `update_obs` and `get_action`. Every trial ends as a line of a file that `lingbot evaluate score` reads.
This module needs PyYAML and the robots' client (`lingbot_client`); the weights stay where the endpoint runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model.errors import UserError
from model.evaluation.actors import ActorLost, Look
from model.evaluation.records import Violations
from model.evaluation.robotwin import Run, check_limit, step_limit
from model.evaluation.served import ServedActor
from model.evaluation.trial import ROUNDING, Pace, fault
from model.robots import Robot, load_robot

VIEWS = {"high": "head_camera", "left_wrist": "left_camera", "right_wrist": "right_camera"}
"""RoboTwin's cameras by what they show (roles of model/robots)."""
_NEEDED = ("task_name", "task_config", "seed", "server", "bundle_digest", "records")


class TaskEnv(Protocol):
    """What is used of RoboTwin's task. `ep_num` counts its trials from 0."""

    task_name: str
    ep_num: int
    step_lim: int | None
    take_action_cnt: int
    eval_success: bool

    def get_instruction(self) -> str: ...
    def get_obs(self) -> Mapping[str, Any]: ...
    def take_action(self, action: np.ndarray, action_type: str) -> Any: ...


class PolicyFault(Exception):
    """The policy's answer cannot be executed."""


@dataclass
class _Trial:
    """One that has begun: what its record needs beside what the actor measured."""

    number: int
    instruction: str
    actions: int = 0
    beyond: int = 0


class RoboTwinPolicy:
    """Looks through the endpoint, and writes the record of each trial that ended.

    Args:
        execute_steps: actions of a chunk that are taken before the next look; 0: all of them.
        records: file that gets a line a trial.

    Raises:
        UserError: at the first look, when another bundle is served or its chunks are shorter than `execute_steps`.
    """

    def __init__(self, run: Run, actor: ServedActor, robot: Robot, *, execute_steps: int, records: Path) -> None:
        self.run = run
        self._actor = actor
        self._robot = robot
        self._execute_steps = execute_steps
        self._records = records
        self._trial: _Trial | None = None
        self._begin(0)

    def _begin(self, number: int) -> None:
        self._number = number
        self._observation: Mapping[str, Any] | None = None
        self._instruction = ""
        self._looks = 0
        self._step = 0

    def set_language(self, instruction: str) -> None:
        self._instruction = instruction

    def update_obs(self, observation: Mapping[str, Any]) -> None:
        """Takes what `TASK_ENV.get_obs()` returned; the policy sees the latest alone."""
        self._observation = observation

    def get_action(self) -> np.ndarray:
        """Joint targets [T, A] from the latest observation, in RoboTwin's order ('qpos').

        Raises:
            ActorLost: the endpoint is away or refuses.
            PolicyFault: its answer has the wrong shape or is not finite.
        """
        if self._observation is None or not self._instruction:
            raise UserError("get_action was called too early: call set_language and update_obs before it")
        state = _state(self._observation, self._robot)
        look = Look(
            images=_images(self._observation, self._robot),
            state=state,
            instruction=self._instruction,
            seed=self.run.scene_seed(self._number),
            step=self._step,
        )
        self._looks += 1
        chunk = self._actor.act(look)
        wrong = fault(chunk, len(self._robot.action_names))
        if wrong:
            raise PolicyFault(wrong)
        steps = self._execute_steps or len(chunk)
        Pace(execute_steps=steps).check(len(chunk))
        self._step += steps
        return chunk[:steps]

    def reset_model(self) -> None:
        """Before each trial. One that was left before its end is recorded as an error."""
        if self._trial is not None:
            self._write(f"RoboTwin left the trial after {self._trial.actions} actions", lost=True)
        self._begin(self._number + 1)

    reset = reset_model

    def close(self) -> None:
        self._actor.close()

    def play_chunk(self, env: TaskEnv, observation: Mapping[str, Any]) -> None:
        """One look and its actions; the trial's record is written when they end it."""
        if self._trial is None:
            self._start(env)
        assert self._trial is not None
        trial = self._trial
        self.update_obs(observation)
        try:
            actions = self.get_action()
        except (ActorLost, PolicyFault) as error:
            self._write(f"{error} (look {self._looks}, step {trial.actions})", lost=isinstance(error, ActorLost))
            env.take_action_cnt = step_limit(self.run.task)  # nothing else tells RoboTwin that a trial is over
            return
        for action in actions:
            trial.beyond += _beyond_limits(action, self._robot)
            env.take_action(action, action_type="qpos")
            trial.actions = env.take_action_cnt
            if is_over(env):
                break
        if is_over(env):
            self._write(None if env.eval_success else f"not done within the limit of {env.step_lim} actions")

    def _start(self, env: TaskEnv) -> None:
        if env.task_name != self.run.task:
            raise UserError(f"this policy was made for task '{self.run.task}', RoboTwin runs '{env.task_name}'")
        check_limit(env.task_name, env.step_lim)
        self._begin(env.ep_num)
        self.set_language(env.get_instruction())
        self._trial = _Trial(number=env.ep_num, instruction=self._instruction)

    def _write(self, reason: str | None, *, lost: bool = False) -> None:
        assert self._trial is not None
        record = self.run.record(
            number=self._trial.number,
            instruction=self._trial.instruction,
            actions=self._trial.actions,
            looks=self._looks,
            milliseconds=self._actor.latencies(),
            violations=Violations(limits=self._trial.beyond),
            model_version=self._actor.model_version,
            reason=reason,
            lost=lost,
        )
        with self._records.open("a", encoding="utf-8") as file:
            file.write(record.to_line() + "\n")
        self._trial = None


def get_model(usr_args: Mapping[str, Any]) -> RoboTwinPolicy:
    """The policy of one run of RoboTwin's evaluation; `usr_args` is its configuration (README).

    Raises:
        UserError: a setting is missing or wrong, the task is none of RoboTwin 2.0's, the run has records already.
    """
    missing = [name for name in _NEEDED if usr_args.get(name) in (None, "")]
    if missing:
        raise UserError(f"RoboTwin's configuration lacks {', '.join(missing)}: add it to the YAML or to --overrides")
    server, steps = str(usr_args["server"]), usr_args.get("execute_steps", 0)
    if not server.startswith(("ws://", "wss://")):
        raise UserError(f"the server's address '{server}' must begin with ws:// or wss://: ws://127.0.0.1:8000")
    if not isinstance(steps, int) or steps < 0:
        raise UserError(f"execute_steps is {steps!r}: give a number from 1, or 0 for the whole chunk")
    step_limit(str(usr_args["task_name"]))
    robot = load_robot(str(usr_args.get("robot", "robotwin_agilex")))
    run = Run(
        task=str(usr_args["task_name"]),
        task_config=str(usr_args["task_config"]),
        seed=int(usr_args["seed"]),
        robot=robot.id,
        bundle_digest=str(usr_args["bundle_digest"]),
    )
    records = Path(str(usr_args["records"])) / f"{run.task}-{run.task_config}-seed{run.seed}.jsonl"
    if records.exists():
        raise UserError(f"{records} holds an earlier run's trials: move it away, or name another folder as `records`")
    records.parent.mkdir(parents=True, exist_ok=True)
    actor = ServedActor(
        server,
        tuple(robot.cameras.values()),
        bundle_digest=run.bundle_digest,
        key=_key(usr_args.get("key_file")),
    )
    return RoboTwinPolicy(run, actor, robot, execute_steps=steps, records=records)


def eval(TASK_ENV: TaskEnv, model: RoboTwinPolicy, observation: Mapping[str, Any]) -> None:  # RoboTwin's names
    """One look and its actions."""
    model.play_chunk(TASK_ENV, observation)


def eval_one_episode(TASK_ENV: TaskEnv, model: RoboTwinPolicy) -> None:
    """A whole trial of a task that is set up, for programs that leave the loop to the policy."""
    model.reset_model()
    while not is_over(TASK_ENV):
        model.play_chunk(TASK_ENV, TASK_ENV.get_obs())


def reset_model(model: RoboTwinPolicy) -> None:
    model.reset_model()


def is_over(env: TaskEnv) -> bool:
    """As RoboTwin's own loop decides it."""
    return env.eval_success or (env.step_lim is not None and env.take_action_cnt >= env.step_lim)


def _images(observation: Mapping[str, Any], robot: Robot) -> dict[str, np.ndarray]:
    views = observation["observation"]
    images = {}
    for role, name in robot.cameras.items():
        if VIEWS[role] not in views or "rgb" not in views[VIEWS[role]]:
            raise UserError(
                f"RoboTwin's observation has no rgb of {VIEWS[role]} (it has {', '.join(views)}): switch that camera "
                "and data_type.rgb on in the task_config"
            )
        images[name] = np.asarray(views[VIEWS[role]]["rgb"], np.uint8)
    return images


def _state(observation: Mapping[str, Any], robot: Robot) -> np.ndarray:
    state = np.asarray(observation["joint_action"]["vector"], np.float32)
    if state.shape != (len(robot.state_names),):
        raise UserError(
            f"RoboTwin's state has shape {state.shape}, robot '{robot.id}' has {len(robot.state_names)} values: choose "
            "the embodiment of that robot in the task_config, or another `robot`"
        )
    return state


def _beyond_limits(action: np.ndarray, robot: Robot) -> int:
    """Values beyond the robot's limits; a limit that is unverified (NaN) cannot be broken."""
    low, high = robot.limits.T
    return int(((action < low - ROUNDING) | (action > high + ROUNDING)).sum())


def _key(path: Any) -> str:
    if not path:
        return ""
    if not Path(str(path)).is_file():
        raise UserError(f"key_file {path} is not a file: give one that holds the endpoint's key")
    return Path(str(path)).read_text(encoding="utf-8").strip()
