"""RoboTwin 2.0 as a benchmark: its tasks with their step limits, and what one of its trials becomes as a record.

RoboTwin limits a trial by actions and gives an action no fixed duration, so `seconds` of these records counts actions.
It tells success alone: a record has the one checkpoint "done", and PS equals SR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from model.errors import UserError, unknown_name
from model.evaluation.latency import latency_of
from model.evaluation.records import ERROR, FAILURE, SUCCESS, Checkpoint, TrialRecord, Violations
from model.yaml_files import read_yaml

BENCHMARK = "robotwin2"
DONE = "done"
TASKS_FILE = Path(__file__).with_name("robotwin_tasks.yaml")
CONDITIONS = {"demo_clean": "clean", "demo_randomized": "randomised"}
"""RoboTwin's task configurations that have a name here; any other one names its condition itself."""


@cache
def step_limits() -> Mapping[str, int]:
    """Actions allowed in a trial of each of the 50 tasks."""
    content = read_yaml(TASKS_FILE)
    return {task: limit for limit, tasks in content["step_limits"].items() for task in tasks}


def step_limit(task: str) -> int:
    """Actions allowed in a trial of `task`.

    Raises:
        UserError: RoboTwin 2.0 has no such task; names the nearest.
    """
    if task not in step_limits():
        raise unknown_name("task of RoboTwin 2.0", task, step_limits())
    return step_limits()[task]


def check_limit(task: str, limit: int | None) -> None:
    """Refuse a simulator whose limit is another than the published one: its rates compare with nobody's.

    Raises:
        UserError: so, or an unknown task.
    """
    published = step_limit(task)
    if limit != published:
        raise UserError(
            f"this RoboTwin allows {limit} actions for '{task}', the benchmark {published}: set {task} to {published} "
            f"in its task_config/_eval_step_limit.yml"
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all trials of one run of RoboTwin's evaluation share.

    Attributes:
        task_config: RoboTwin's name of the scenes' conditions, as demo_clean.
        seed: RoboTwin's own `seed`: the run's scenes follow 100,000 * (1 + seed).
        robot: id in model/robots.
    """

    task: str
    task_config: str
    seed: int
    robot: str
    bundle_digest: str

    def scene_seed(self, number: int) -> int:
        """A seed of the policy's noise in trial `number`; RoboTwin does not tell which scene it drew."""
        return 100_000 * (1 + self.seed) + number

    def record(
        self,
        *,
        number: int,
        instruction: str,
        actions: int,
        looks: int,
        milliseconds: Sequence[float],
        violations: Violations,
        model_version: str,
        reason: str | None,
        lost: bool = False,
    ) -> TrialRecord:
        """The record of trial `number` of this run.

        It has a name and no seed: RoboTwin leaves out scenes that its expert fails in and does not say which.

        Args:
            actions: taken by the simulator.
            milliseconds: from each look to its chunk.
            reason: why it did not succeed; None: it did.
            lost: something beside the policy ended it.
        """
        succeeded = reason is None
        return TrialRecord(
            condition=CONDITIONS.get(self.task_config, self.task_config),
            policy="policy",
            bundle_digest=self.bundle_digest,
            task=self.task,
            instruction=instruction,
            robot=self.robot,
            checkpoints=(Checkpoint(name=DONE, seconds=float(actions) if succeeded else None),),
            outcome=SUCCESS if succeeded else ERROR if lost else FAILURE,
            reason=reason,
            seconds=float(actions),
            looks=looks,
            trial=f"seed{self.seed}-{number}",
            model_version=model_version,
            benchmark=BENCHMARK,
            client_latency_ms=latency_of(milliseconds),
            violations=violations,
        )
