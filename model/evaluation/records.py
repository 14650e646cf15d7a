"""The record of one trial and the JSON-lines file of them: one schema for simulation and, later, for real arms."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.errors import UserError

SCHEMA_VERSION = 1
SUCCESS, FAILURE = "success", "failure"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One ordered sub-task of a trial and when it was first passed, in seconds from the start; None: never."""

    name: str
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What happened in one trial.

    `condition` names the experiment (policy, untrained, swapped, ...), `policy` what acted, `task` whose scene and
    success were used, `instruction` the text that the policy was given. `seconds` is simulated time, never wall clock:
    equal trials have equal records. `reason` says why a failed trial failed.
    """

    condition: str
    policy: str
    bundle_digest: str
    task: str
    instruction: str
    robot: str
    seed: int
    checkpoints: tuple[Checkpoint, ...]
    outcome: str
    reason: str | None
    seconds: float
    looks: int
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        name = f"trial {self.condition}/{self.task}/{self.seed}"
        if self.outcome not in (SUCCESS, FAILURE):
            raise UserError(f"{name}: outcome '{self.outcome}' must be '{SUCCESS}' or '{FAILURE}'")
        if not self.checkpoints:
            raise UserError(f"{name} lists no checkpoints: a task needs at least one")
        times = [c.seconds for c in self.checkpoints]
        passed = [t for t in times if t is not None]
        if None in times[: len(passed)] or passed != sorted(passed):
            order = [c.name for c in self.checkpoints]
            raise UserError(f"{name}: the checkpoints {order} were passed out of order: {times}")
        if (self.outcome == SUCCESS) != (self.reason is None):
            raise UserError(f"{name}: a failed trial needs a reason and a success has none, got {self.reason!r}")

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What identifies a trial: no two records of one file may share it."""
        return (self.condition, self.policy, self.task, self.instruction, self.seed)

    @property
    def success(self) -> bool:
        return self.outcome == SUCCESS

    @property
    def progress(self) -> float:
        """Fraction of the ordered checkpoints that were passed: this trial's part of PS."""
        return sum(c.seconds is not None for c in self.checkpoints) / len(self.checkpoints)

    def to_line(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)


def from_line(line: str, where: str) -> TrialRecord:
    """A record from one JSON line; `where` (file and line) goes into the error."""
    try:
        fields: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON ({error.msg}): write one trial record a line") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where} holds {type(fields).__name__}: write one trial record (a JSON object) a line")
    if fields.get("schema_version") != SCHEMA_VERSION:
        found = fields.get("schema_version")
        raise UserError(f"{where} has schema_version {found!r}: this reader knows {SCHEMA_VERSION}")
    try:
        checkpoints = tuple(Checkpoint(**checkpoint) for checkpoint in fields.pop("checkpoints"))
        return TrialRecord(checkpoints=checkpoints, **fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} is not a trial record: {error}") from error


def read_trials(path: Path) -> list[TrialRecord]:
    """All trials of a JSON-lines file; duplicates, records of mixed bundles and broken lines are named."""
    if not path.is_file():
        raise UserError(f"{path} is not a file: give a trials.jsonl that `lingbot evaluate closed` or a run wrote")
    lines = path.read_text(encoding="utf-8").splitlines()
    records = [from_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not records:
        raise UserError(f"{path} holds no trial: run at least one")
    twice = [key for key, count in Counter(record.key for record in records).items() if count > 1]
    if twice:
        raise UserError(f"{path} holds {len(twice)} trials more than once, first {twice[0]}: keep each once")
    bundles = sorted({record.bundle_digest for record in records})
    if len(bundles) > 1:
        raise UserError(f"{path} mixes trials of {len(bundles)} bundles ({', '.join(bundles)}): keep one bundle a file")
    return records


def write_trials(path: Path, records: Iterable[TrialRecord]) -> None:
    """Sorted by condition and seed, so that equal trials give equal bytes whatever order they ended in."""
    lines = [record.to_line() + "\n" for record in sorted(records, key=lambda record: record.key)]
    path.write_text("".join(lines), encoding="utf-8")


def group(records: Sequence[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """Trials by condition, in the order in which the conditions first appear."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(record.condition, []).append(record)
    return groups
