"""The page of scored trials: a table and charts a robot, another policy beside, and what others published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipelines.report.champion import Difference, difference_rows
from pipelines.report.charts import Bar, difference_bars, interval_bars
from pipelines.report.page import render
from pipelines.report.text import milliseconds, percent, plain

Row = Mapping[str, Any]
WIDTH = 540
ALL, OVERALL = "all", "mean over its robots"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One score; cells of columns that the table does not show are not in `labels`."""

    labels: tuple[str, ...]
    task: str
    whole: bool
    trials: str
    sr: str
    sr_interval: str
    ps: str
    ps_interval: str
    latency: str


@dataclass(frozen=True, kw_only=True)
class RobotTable:
    robot: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    charts: tuple[Markup, ...]
    latency: bool


@dataclass(frozen=True, kw_only=True)
class Against:
    """One condition beside another policy's trials."""

    condition: str
    sentence: str
    chart: Markup
    rows: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    text: str
    bar: Bar


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The published table: `header` names the robots, `rows` are (policy, footnote, a cell a robot)."""

    title: str
    sentence: str
    condition: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    charts: tuple[Markup, ...]
    sources: tuple[str, ...]
    has_progress: bool


def write_score_page(sheet: Mapping[str, Any], output: Path, *, against: str = "") -> Path:
    """Writes the page of what `lingbot evaluate score --json` prints to the file `output`.

    Args:
        sheet: the score sheet.
        against: what the other policy's trials are called.
    """
    scores = sheet["scores"]
    robots = list(dict.fromkeys(row["robot"] for row in scores))
    trials = sum(row["trials"] for row in scores if row["task"] is not None)
    benchmark = sheet["published"]["title"] if sheet["published"] else plain(sheet["benchmark"])
    return render(
        "scores.html",
        output,
        title=f"{trials} trials of {benchmark}",
        other=against,
        sheet=sheet,
        robots=[_robot_table(robot, [row for row in scores if row["robot"] == robot]) for robot in robots],
        against=[_against(row, against) for row in sheet["against"] or ()],
        published=_published(sheet),
    )


def _robot_table(robot: str, rows: Sequence[Row]) -> RobotTable:
    shown = [name for name in ("policy", "condition") if len({row[name] for row in rows}) > 1]
    latency = any(row["client_latency_ms"] for row in rows)
    lines = tuple(_line(row, shown) for row in rows)
    charts = tuple(
        interval_bars([_bar(row, key, shown) for row in rows], title=title, width=WIDTH)
        for key, title in (("sr", "Success rate by task"), ("ps", "Progress score by task"))
    )
    return RobotTable(robot=plain(robot), header=tuple(shown), lines=lines, charts=charts, latency=latency)


def _line(row: Row, shown: Sequence[str]) -> Line:
    errors = f" ({row['errors']} broken off)" if row["errors"] else ""
    return Line(
        labels=tuple(plain(row[name]) for name in shown),
        task=_task(row),
        whole=row["task"] is None,
        trials=f"{row['trials']}{errors}",
        sr=percent(row["sr"]),
        sr_interval=_interval(row, "sr"),
        ps=percent(row["ps"]),
        ps_interval=_interval(row, "ps"),
        latency=_latency(row["client_latency_ms"]),
    )


def _task(row: Row) -> str:
    return f"all {row['tasks']} tasks" if row["task"] is None else plain(row["task"])


def _interval(row: Row, key: str) -> str:
    return f"{percent(row[f'{key}_low'])} to {percent(row[f'{key}_high'])}"


def _latency(measured: Mapping[str, Any] | None) -> str:
    return f"{milliseconds(measured['median'])}, {milliseconds(measured['p99'])}" if measured else ""


def _bar(row: Row, key: str, shown: Sequence[str]) -> Bar:
    names = [_task(row), *(plain(row[name]) for name in shown)]
    tone = "--series-3" if row["task"] is None else "--accent"
    return Bar(label=", ".join(names), value=row[key], low=row[f"{key}_low"], high=row[f"{key}_high"], tone=tone)


def _against(row: Row, name: str) -> Against:
    rows = difference_rows(row)
    how = "the same scenes" if row["paired"] else "separate trials"
    test = "McNemar" if row["paired"] else "Fisher"
    return Against(
        condition=plain(row["condition"]),
        sentence=f"Success rate minus that of {name}, on {how}; {test} p {row['difference']['p']:.2g}. A task is "
        f"called worse at {row['significance']:.0%} after Holm's correction for {len(row['tasks'])} tasks.",
        chart=difference_bars([one.bar for one in rows], title="Difference of success rates, in points", width=WIDTH),
        rows=rows,
    )


def _published(sheet: Mapping[str, Any]) -> tuple[Beside, ...]:
    found = sheet["published"]
    if found is None:
        return ()
    conditions = dict.fromkeys(one["condition"] for one in found["results"])
    return tuple(_beside(found, condition, _whole_rows(sheet["scores"], condition)) for condition in conditions)


def _whole_rows(scores: Sequence[Row], condition: str) -> list[Row]:
    """A row a robot and policy under that condition: over all its tasks, or its only one."""
    best: dict[tuple[str, str], Row] = {}
    for row in scores:
        if row["condition"] == condition and ((row["robot"], row["policy"]) not in best or row["task"] is None):
            best[row["robot"], row["policy"]] = row
    return list(best.values())


def _beside(found: Mapping[str, Any], condition: str, ours: Sequence[Row]) -> Beside:
    results = [one for one in found["results"] if one["condition"] == condition]
    robots = list(dict.fromkeys(one["robot"] for one in (*ours, *results)))
    sources = list(dict.fromkeys(one["source"] for one in results))
    table: dict[tuple[str, str], dict[str, _Cell]] = {}
    for row in ours:
        name = f"{plain(row['policy'])} (these trials)"
        bar = Bar(label=name, value=row["sr"], low=row["sr_low"], high=row["sr_high"], tone="--accent")
        table.setdefault((name, ""), {})[row["robot"]] = _Cell(text=_rates(row, ".1f"), bar=bar)
    for one in results:
        bar = Bar(label=one["policy"], value=one["sr"], low=None, high=None, tone="--quiet")
        table.setdefault((one["policy"], one["source"]), {})[one["robot"]] = _Cell(text=_rates(one, ".4g"), bar=bar)
    names = {robot: OVERALL if robot == ALL else plain(robot) for robot in robots}
    return Beside(
        title=found["title"],
        condition=plain(condition),
        sentence=_caution(found),
        header=tuple(names.values()),
        rows=tuple(
            (name, _mark(source, sources), tuple(of[robot].text if robot in of else "" for robot in robots))
            for (name, source), of in table.items()
        ),
        charts=tuple(
            interval_bars(bars, title=f"Success rate, {name}", width=WIDTH)
            for robot, name in names.items()
            if len(bars := [of[robot].bar for of in table.values() if robot in of]) > 1
        ),
        sources=tuple(f"{_mark(source, sources)} {source}".strip() for source in sources),
        has_progress=any(one["ps"] is not None for one in (*ours, *results)),
    )


def _caution(found: Mapping[str, Any]) -> str:
    text = f"{found['protocol'].capitalize()}. It was published without intervals, and none of it was measured here."
    if found["tried"] == found["tasks"]:
        return text
    return (
        f"{text} These trials are of {found['tried']} of its {found['tasks']} tasks, the published rates are over all: "
        "they cannot be ranked against each other."
    )


def _mark(source: str, sources: Sequence[str]) -> str:
    """A footnote's mark, where there is more than one source."""
    return f"[{sources.index(source) + 1}]" if source and len(sources) > 1 else ""


def _rates(figures: Mapping[str, Any], digits: str) -> str:
    """SR, and PS where there is one, in percent."""
    return " / ".join(f"{100 * figures[key]:{digits}}" for key in ("sr", "ps") if figures[key] is not None)
