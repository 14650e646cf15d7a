"""What a benchmark on real robots asks for: its tasks and their checkpoints, trials a task, the time limit.

The numbers by default are GM-100's (SPEC_VLA section 4.2): 15 trials of each task on each robot for each policy, and
3 minutes a trial. Its task list is a file, because a benchmark is not part of this project:

    benchmark: gm100
    robots: [agibot_g1, agilex, galaxea_r1_pro]
    tasks:
      - name: fold_towel
        instruction: fold the towel
        checkpoints: [corner grasped, folded once, folded twice]
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from model.errors import UserError, unknown_name
from model.evaluation.records import TrialRecord
from model.yaml_files import read_yaml

TRIALS_A_TASK = 15
MAX_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class ProtocolTask:
    """One task: what the policy is told, and the checkpoints in the order in which they are passed."""

    name: str
    checkpoints: tuple[str, ...]
    instruction: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.checkpoints or len(set(self.checkpoints)) < len(self.checkpoints):
            raise UserError(
                f"task '{self.name}' has the checkpoints {list(self.checkpoints)}: give it a name, and one checkpoint "
                f"or more, each with a name of its own"
            )


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A benchmark. `robots` empty allows any; `max_seconds` is the time within which every step must be done."""

    benchmark: str
    tasks: Mapping[str, ProtocolTask] = field(default_factory=dict)
    robots: tuple[str, ...] = ()
    trials_a_task: int = TRIALS_A_TASK
    max_seconds: float = MAX_SECONDS

    def __post_init__(self) -> None:
        if not self.benchmark or not self.tasks:
            raise UserError(f"benchmark '{self.benchmark}' lists {len(self.tasks)} tasks: name it and list one or more")
        if self.trials_a_task < 1 or not self.max_seconds > 0:
            raise UserError(
                f"benchmark '{self.benchmark}' asks for {self.trials_a_task} trials of {self.max_seconds:g} s a task: "
                f"both must be above 0"
            )

    def check(self, record: TrialRecord, where: str) -> None:
        """Refuse a record that this protocol does not allow; `where` goes into the error."""
        if record.benchmark != self.benchmark:
            raise UserError(f"{where} is of benchmark '{record.benchmark}': this protocol is '{self.benchmark}'")
        if record.task not in self.tasks:
            raise _at(where, unknown_name(f"task of {self.benchmark}", record.task, self.tasks))
        if self.robots and record.robot not in self.robots:
            raise _at(where, unknown_name(f"robot of {self.benchmark}", record.robot, self.robots))
        names = tuple(checkpoint.name for checkpoint in record.checkpoints)
        wanted = self.tasks[record.task].checkpoints
        if names != wanted:
            how = "out of order" if sorted(names) == sorted(wanted) else "not those of the task"
            raise UserError(f"{where}: the checkpoints {list(names)} are {how}: '{record.task}' has {list(wanted)}")
        last = max((c.seconds for c in record.checkpoints if c.seconds is not None), default=0.0)
        if last > self.max_seconds or (record.success and record.seconds > self.max_seconds):
            raise UserError(
                f"{where}: {record.name} passed a checkpoint or succeeded after the limit of {self.max_seconds:g} s: "
                f"what comes later does not count, record it as never passed"
            )

    def missing(self, records: Sequence[TrialRecord]) -> list[str]:
        """Which tasks have fewer trials than the protocol asks for, as sentences.

        Raises:
            UserError: a task has more. Then somebody chose how many, and a policy that failed may have had more tries.
        """
        groups = list(dict.fromkeys((r.robot, r.policy, r.condition) for r in records))
        counted = Counter((r.robot, r.policy, r.condition, r.task) for r in records)
        said = []
        for robot, policy, condition in groups:
            for task in self.tasks:
                found = counted[robot, policy, condition, task]
                if found > self.trials_a_task:
                    raise UserError(
                        f"policy '{policy}' has {found} trials of '{task}' on {robot} ({condition}): {self.benchmark} "
                        f"takes {self.trials_a_task}, leave out what was tried beyond"
                    )
                if found < self.trials_a_task:
                    said.append(f"{policy} has {found} of {self.trials_a_task} trials of {task} on {robot}")
        return said


def _at(where: str, error: UserError) -> UserError:
    return UserError(f"{where}: {error}")


def read_protocol(path: Path) -> Protocol:
    """A protocol from its YAML or JSON file."""
    if not path.is_file():
        raise UserError(f"{path} is not a file: give a protocol with benchmark, robots and tasks")
    content = read_yaml(path)
    try:
        settings = _settings(Protocol, content, "protocol")
        listed = settings.get("tasks") or []
        if not isinstance(listed, list):
            raise UserError(f"tasks is {listed!r}: give a list")
        tasks: dict[str, ProtocolTask] = {}
        for entry in listed:
            task = ProtocolTask(**_texts(_settings(ProtocolTask, entry, "task"), "checkpoints"))
            if task.name in tasks:
                raise UserError(f"task '{task.name}' is listed twice: give each its own name")
            tasks[task.name] = task
        return Protocol(**_texts({**settings, "tasks": tasks}, "robots"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _settings(kind: type, content: Any, what: str) -> dict[str, Any]:
    """The fields of a dataclass as a file gives them, with plain types checked."""
    types: dict[str, tuple[type, ...]] = {
        **dict.fromkeys(("benchmark", "name", "instruction"), (str,)),
        "trials_a_task": (int,),
        "max_seconds": (int, float),
    }
    known = [entry.name for entry in fields(kind)]
    if not isinstance(content, dict):
        raise UserError(f"a {what} is {content!r}: give it {', '.join(known)}")
    for name, value in content.items():
        if name not in known:
            raise unknown_name(f"field of a {what}", str(name), known)
        if name in types and (not isinstance(value, types[name]) or isinstance(value, bool)):
            raise UserError(f"{name} of a {what} is {value!r}: give a {'text' if types[name] == (str,) else 'number'}")
    for name in ("benchmark",) if kind is Protocol else ("name", "checkpoints"):
        if name not in content:
            raise UserError(f"a {what} has no '{name}': give it one")
    return content


def _texts(settings: dict[str, Any], name: str) -> dict[str, Any]:
    values = settings.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{name} is {values!r}: give a list of texts")
    return {**settings, name: tuple(values)}
