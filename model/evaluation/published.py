"""What others published on a benchmark, to stand beside trials of the same benchmark: `published.yaml`, with sources.

Published rates have no intervals, and they are over all of the benchmark's tasks: beside trials of some of the tasks
they say where the others stand and decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from model.evaluation.records import TrialRecord
from model.yaml_files import read_yaml

FILE = Path(__file__).with_name("published.yaml")
ALL = "all"
"""The mean over a benchmark's robots, or its only one."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published result. `sr` and `ps` are fractions, `ps` None where only SR was published."""

    policy: str
    robot: str
    condition: str
    sr: float
    ps: float | None
    source: str


@dataclass(frozen=True, kw_only=True)
class PublishedBenchmark:
    """What was published on one benchmark, all over its `tasks` tasks."""

    title: str
    tasks: int
    protocol: str
    results: tuple[Published, ...]


@cache
def published() -> Mapping[str, PublishedBenchmark]:
    """By the name that trial records have for the benchmark."""
    content = read_yaml(FILE)
    return {name: _benchmark(entry) for name, entry in content["benchmarks"].items()}


def beside(records: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """`published` of a score sheet: what was published on the benchmark of these trials, under conditions and on robots
    that they tried; None when nothing was.

    `tried` is how many of the benchmark's `tasks` the trials are of.
    """
    found = published().get(records[0].benchmark)
    if found is None:
        return None
    robots, conditions = {record.robot for record in records}, {record.condition for record in records}
    results = [one for one in found.results if one.robot in (*robots, ALL) and one.condition in conditions]
    if not results:
        return None
    return {
        "title": found.title,
        "protocol": found.protocol,
        "tasks": found.tasks,
        "tried": len({record.task for record in records}),
        "results": [asdict(one) for one in results],
    }


def _benchmark(entry: Mapping[str, Any]) -> PublishedBenchmark:
    results = [
        _result(table, policy, robot, dict(zip(table["rates"], rates, strict=True)))
        for table in entry["tables"]
        for robot, of_policies in table["robots"].items()
        for policy, rates in zip(table["policies"], of_policies, strict=True)
    ]
    return PublishedBenchmark(
        title=entry["title"], tasks=entry["tasks"], protocol=entry["protocol"], results=tuple(results)
    )


def _result(table: Mapping[str, Any], policy: str, robot: str, rates: Mapping[str, float]) -> Published:
    return Published(
        policy=policy,
        robot=robot,
        condition=table["condition"],
        sr=_fraction(rates["sr"]),
        ps=_fraction(rates["ps"]) if "ps" in rates else None,
        source=table["source"],
    )


def _fraction(percent: float) -> float:
    return round(percent / 100, 6)
