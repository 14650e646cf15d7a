"""Trials as tables: SR and PS of each robot, policy and task, and one set of trials against another."""

from collections.abc import Sequence
from typing import Any

from model.errors import UserError
from model.evaluation.closed_loop import BASELINES
from model.evaluation.comparison import SIGNIFICANCE, can_be_paired, compare, compare_tasks, compare_unpaired
from model.evaluation.latency import client_latency
from model.evaluation.power import trials_paired, trials_unpaired
from model.evaluation.records import TrialRecord, group
from model.evaluation.scoring import score

SCHEMA_VERSION = 2
"""1 had no `files`, no `policies`, no `published`, and no `client_latency_ms` in its rows."""


def score_rows(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """One row a robot, policy, condition and task, each with its `Score` and `client_latency_ms` (null when nobody
    measured it); `task` null for all tasks together.

    In the order of the records, tasks by name. With one task there is no row for all of them.
    """
    groups: dict[tuple[str, str, str], dict[str, list[TrialRecord]]] = {}
    for record in records:
        tasks = groups.setdefault((record.robot, record.policy, record.condition), {})
        tasks.setdefault(record.task, []).append(record)
    rows = []
    for (robot, policy, condition), tasks in groups.items():
        of: list[tuple[str | None, list[TrialRecord]]] = [(task, tasks[task]) for task in sorted(tasks)]
        if len(tasks) > 1:
            of.append((None, [record for of_task in tasks.values() for record in of_task]))
        label = {"robot": robot, "policy": policy, "condition": condition}
        rows += [
            {**label, "task": task, **score(trials).to_json(), "client_latency_ms": client_latency(trials)}
            for task, trials in of
        ]
    return rows


def policy_rows(records: Sequence[TrialRecord]) -> list[dict[str, str]]:
    """Which bundle and model version was tried as each policy on each robot; "" where the records do not say."""
    found = dict.fromkeys((r.robot, r.policy, r.bundle_digest, r.model_version) for r in records)
    return [dict(zip(("robot", "policy", "bundle_digest", "model_version"), one, strict=True)) for one in found]


def against_rows(records: Sequence[TrialRecord], champion: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The trials' policy minus the champion's, for each condition that both tried, in all and task by task.

    On common seeds where the trials have seeds, as two samples where they have none. Baselines are left out: they are
    there to be compared with a policy, and not with each other.
    """
    found = group(records), group(champion)
    conditions = [name for name in found[0] if name in found[1] and name not in BASELINES]
    if not conditions:
        names = " and ".join(", ".join(groups) for groups in found)
        raise UserError(f"the trials have the conditions {names}: none is common, so there is nothing to compare")
    benchmarks = sorted({record.benchmark for record in (*records, *champion)})
    if len(benchmarks) > 1:
        raise UserError(f"the trials are of the benchmarks {' and '.join(benchmarks)}: compare trials of one")
    rows = []
    for condition in conditions:
        first, second = (groups[condition] for groups in found)
        for trials in (first, second):
            policies = sorted({record.policy for record in trials})
            if len(policies) > 1:
                raise UserError(
                    f"condition '{condition}' has the policies {', '.join(policies)}: compare one at a time"
                )
        paired = can_be_paired(first, second)
        rows.append(
            {
                "condition": condition,
                "paired": paired,
                "difference": (compare(first, second) if paired else compare_unpaired(first, second)).to_json(),
                "significance": SIGNIFICANCE,
                "tasks": [task.to_json() for task in compare_tasks(first, second)],
            }
        )
    return rows


def trials_needed(records: Sequence[TrialRecord], *, difference: float, power: float) -> dict[str, Any]:
    """Trials it takes to see that another policy is better or worse by `difference`, from the SR of these trials.

    `each` without common seeds, `seeds` with them, supposing that the two policies fail on unrelated scenes: policies
    that are alike need fewer. The other policy is taken to be on that side of this one where there is room.
    """
    if not 0 < difference < 1:
        raise UserError(f"a difference of {100 * difference:g} points cannot be planned for: choose between 0 and 100")
    rate = sum(record.success for record in records) / len(records)
    other = rate + difference if rate + difference <= 1 else max(rate - difference, 0.0)
    only = rate * (1 - other), other * (1 - rate)
    return {
        "sr": round(rate, 6), "other_sr": round(other, 6), "power": power,
        "each": trials_unpaired(rate, other, power=power), "seeds": trials_paired(*only, power=power),
    }  # fmt: skip
