"""Against the champion as the gate compared them: rates side by side and their difference, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pipelines.report.charts import Bar, difference_bars, interval_bars
from pipelines.report.steps import Steps
from pipelines.report.text import percent, plain, points

if TYPE_CHECKING:
    from model.evaluation.records import TrialRecord

WIDTH = 540
QUESTIONS = {
    "not_worse": "not worse than the champion",
    "improvement": "better than the champion",
    "no_regression": "no task worse than the champion's",
}
"""Checks of the gate that compare with the champion, and what each asks."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A task's rates, ours and theirs, and the difference in points with its interval; `bar` draws it."""

    label: str
    ours: str
    theirs: str
    difference: str
    interval: str
    worse: str
    bar: Bar


@dataclass(frozen=True, kw_only=True)
class Champion:
    """`checks` are (what was asked, passed or failed, the figures). `missing` says why there is nothing to draw."""

    checks: tuple[tuple[str, str, str], ...]
    charts: tuple[Markup, ...] = ()
    rows: tuple[Difference, ...] = ()
    margin: str = ""
    missing: str = ""


def champion(steps: Steps) -> Champion | None:
    """None when the version was not judged against another one."""
    verdict = steps.json("promote", "verdict.json") or {"checks": []}
    checks = tuple(
        (QUESTIONS[check["name"]], "passed" if check["passed"] else "failed", str(check["message"]))
        for check in verdict["checks"]
        if check["name"] in QUESTIONS
    )
    if not checks:
        return None
    found = _trials(steps, verdict.get("inputs") or {})
    if isinstance(found, str):
        return Champion(checks=checks, missing=found)
    ours, theirs = found
    policy = verdict["policy"]
    margin = float(policy["max_drop"])
    compared = _compared(ours, theirs, int(policy["min_trials"]), float(policy["regression_alpha"]))
    rates = [bar for pair, _ in compared for bar in pair]
    rows = tuple(row for _, row in compared)
    return Champion(
        checks=checks,
        charts=(
            interval_bars(rates, title="Success rates, champion in grey", width=WIDTH),
            difference_bars([row.bar for row in rows], title="Difference, in points", margin=margin, width=WIDTH),
        ),
        rows=rows,
        margin=f"{100 * margin:.0f}",
    )


def difference_rows(against: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Of a condition of a score sheet's `against`: all tasks together where there are several, then each by itself."""
    tasks, whole = against["tasks"], against["difference"]
    robots = len({task["robot"] for task in tasks}) > 1
    rows = [
        _difference(
            f"{plain(task['task'])}, {plain(task['robot'])}" if robots else plain(task["task"]),
            (task["sr_first"], task["sr_second"]),
            (task["difference"], task["low"], task["high"]),
            worse=task["regressed"],
        )
        for task in tasks
    ]
    if len(tasks) > 1:
        bounds = (whole["difference"], whole["low"], whole["high"])
        rows.insert(0, _difference(f"all {len(tasks)} tasks", None, bounds, whole=True))
    return tuple(rows)


def _difference(
    label: str,
    rates: tuple[float, float] | None,
    bounds: tuple[float, float, float],
    *,
    worse: bool = False,
    whole: bool = False,
) -> Difference:
    value, low, high = bounds
    ours, theirs = (percent(rates[0]), percent(rates[1])) if rates else ("", "")
    tone = "--series-2" if worse else "--series-3" if whole else "--accent"
    return Difference(
        label=label, ours=ours, theirs=theirs, difference=points(value), interval=f"{points(low)} to {points(high)}",
        worse="worse" if worse else "", bar=Bar(label=label, value=value, low=low, high=high, tone=tone),
    )  # fmt: skip


def _trials(
    steps: Steps, inputs: Mapping[str, str | None]
) -> "tuple[Sequence[TrialRecord], Sequence[TrialRecord]] | str":
    """The trials of this version and of the champion, or why they cannot be drawn."""
    from components.promote.evidence import read_trials
    from model.evaluation.records import from_line

    found = []
    for digest in (inputs.get("trials"), inputs.get("champion_trials")):
        if digest is None:
            return "one of them has no trial records, so they were compared by their rates"
        content = read_trials(digest)
        if content is None:
            return f"the trials {digest[:12]} are not stored here any more"
        lines = content.decode("utf-8").splitlines()
        found.append([from_line(line, f"{digest[:12]}:{number}") for number, line in enumerate(lines, 1)])
    return found[0], found[1]


def _compared(
    ours: "Sequence[TrialRecord]", theirs: "Sequence[TrialRecord]", least: int, alpha: float
) -> list[tuple[tuple[Bar, Bar], Difference]]:
    """Of each task and condition that both tried: the rates of both, and the gate's own difference of them."""
    from components.promote.gate.trials import in_pairs, judged, task_outcomes
    from model.evaluation.comparison import compare, compare_unpaired

    found = []
    for outcome in task_outcomes(ours, theirs, least):
        place = (outcome.task, outcome.condition)
        first, second = (
            [one for one in judged(trials) if (one.task, one.condition) == place] for trials in (ours, theirs)
        )
        matched = in_pairs(first, second, least)
        apart = compare_unpaired(first, second) if matched is None else compare(*matched)
        label = f"{plain(outcome.task)}, {plain(outcome.condition)}"
        rates = outcome.candidate, outcome.champion
        bars = (_rate(label, first, "--accent"), _rate("champion", second, "--quiet"))
        bounds = (apart.difference, apart.low, apart.high)
        found.append((bars, _difference(label, rates, bounds, worse=outcome.p < alpha)))
    return found


def _rate(label: str, trials: "Sequence[TrialRecord]", tone: str) -> Bar:
    from model.evaluation.intervals import wilson

    successes = sum(trial.success for trial in trials)
    low, high = wilson(successes, len(trials))
    return Bar(label=label, value=successes / len(trials), low=low, high=high, tone=tone)
