"""The evaluation part of the page: rates with intervals, paired differences, language, films, open loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipelines.report.charts import Bar, interval_bars
from pipelines.report.steps import Steps
from pipelines.report.text import inline_file, percent, plain, points

NAMES = {
    "policy": "policy",
    "twin": "alignment switched",
    "mean_replay": "mean replay",
    "untrained": "untrained",
    "blank_images": "blank images",
    "other_task": "other task",
    "swapped": "swapped",
    "swapped_other": "swapped, other",
}
MEANING = {
    "policy": "the trained policy",
    "twin": "the same run with depth alignment switched over: without it if this one has it",
    "mean_replay": "the mean expert trajectory, replayed without looking",
    "untrained": "the same architecture with seeded weights",
    "blank_images": "the trained policy, every camera black",
    "other_task": "the trained policy on the other task, with that task's instruction",
    "swapped": "the trained policy given the other task's instruction, judged by its own task",
    "swapped_other": "the trained policy on the other task, given its own task's instruction",
}
AGAINST = {
    "twin": "policy − alignment switched",
    "vs_mean_replay": "policy − mean replay",
    "vs_untrained": "policy − untrained",
    "vs_blank_images": "policy − blank images",
    "swapped": "right − swapped instruction",
    "swapped_other": "right − swapped instruction, other task",
}


@dataclass(frozen=True, kw_only=True)
class Film:
    title: str
    caption: str
    strip: str
    moving: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the template draws. `reason` says why there is no closed loop, `open_reason` why there is no open loop."""

    task: str
    reason: str | None
    charts: tuple[Markup, ...]
    meanings: tuple[tuple[str, str], ...]
    paired: tuple[tuple[str, str, str, str], ...]
    language: tuple[str, ...]
    notes: tuple[str, ...]
    films: tuple[Film, ...]
    views: str | None
    views_source: str
    open_reason: str | None
    open_header: tuple[str, ...]
    open_rows: tuple[tuple[str, ...], ...]
    open_picture: str | None


def evaluation(steps: Steps, twin: Mapping[str, Any] | None) -> Evaluation | None:
    """None when the run did not reach evaluation. `twin`: the same run with depth alignment switched over."""
    found = steps.json("evaluate", "evaluation.json")
    if found is None:
        return None
    closed, paired = dict(found["closed_loop"] or {}), dict(found["paired"])
    if closed and twin:
        closed["twin"], paired["twin"] = twin["policy"], twin["paired"]
    header, rows = _open_loop(found["open_loop"]) if found["open_loop"] else ((), ())
    return Evaluation(
        task=plain(found["task"]),
        reason=found["closed_loop_reason"],
        charts=_charts(closed) if closed else (),
        meanings=tuple((NAMES.get(name, plain(name)), MEANING.get(name, "")) for name in ordered(closed)),
        paired=tuple(_paired(name, paired[name]) for name in AGAINST if name in paired),
        language=tuple(_language(name, counted, found) for name, counted in found["language"].items()),
        notes=tuple(found["notes"]),
        films=tuple(_film(steps, name, film) for name, film in sorted(found["films"].items(), reverse=True)),
        views=_media(steps, "views.png"),
        views_source=found["views"]["source"],
        open_reason=found["open_loop_reason"],
        open_header=header,
        open_rows=rows,
        open_picture=_media(steps, "open_loop.png"),
    )


def ordered(closed: Mapping[str, Any]) -> list[str]:
    """Conditions in the order of reading: the policy, its baselines, then language."""
    return [name for name in NAMES if name in closed] + [name for name in closed if name not in NAMES]


def _charts(closed: Mapping[str, Any]) -> tuple[Markup, ...]:
    tones = {"policy": "--accent", "other_task": "--accent"}
    charts = []
    for key, title in (("sr", "Success rate"), ("ps", "Progress score")):
        bars = [
            Bar(
                label=NAMES.get(name, plain(name)),
                value=closed[name][key],
                low=closed[name][f"{key}_low"],
                high=closed[name][f"{key}_high"],
                tone=tones.get(name, "--quiet"),
            )
            for name in ordered(closed)
        ]
        charts.append(interval_bars(bars, title=title))
    return tuple(charts)


def _paired(name: str, figures: Mapping[str, Any]) -> tuple[str, str, str, str]:
    p = figures["p"]
    return (
        AGAINST[name],
        points(figures["difference"]),
        f"{points(figures['low'])} to {points(figures['high'])}",
        "< 0.0001" if p < 1e-4 else f"{p:.4f}",
    )


def _language(name: str, counted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    task = plain(found["task"] if name == "swapped" else found["other_task"])
    if not counted["trials"]:
        return f"{task}: no scene was solved with the right instruction, so swapping it shows nothing."
    interval = f"95% interval {percent(counted['sr_low'])} to {percent(counted['sr_high'])}"
    return (
        f"{task}: on the {counted['trials']} scenes solved with the right instruction, the swapped one still solved "
        f"{counted['successes']} ({percent(counted['sr'])}, {interval})."
    )


def _film(steps: Steps, name: str, film: Mapping[str, Any]) -> Film:
    strip, moving = _media(steps, f"{name}.png"), _media(steps, f"{name}.webp")
    assert strip is not None and moving is not None, f"evaluation.json names the film '{name}', media/ lacks it"
    who = NAMES.get(film["condition"], plain(film["condition"]))
    end = film["seconds"][-1]
    outcome = f"done after {end:g} s" if film["reason"] is None else film["reason"]
    return Film(
        title=f"A {name}: {who}, scene {film['seed']}",
        caption=f"“{film['instruction']}”, {outcome}. Pictures at {', '.join(f'{s:g}' for s in film['seconds'])} s; "
        f"rows: {', '.join(plain(camera) for camera in film['cameras'])}.",
        strip=strip,
        moving=moving,
    )


def _open_loop(figures: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    header = ("joints", "unit", *(f"{steps} steps ahead" for steps in figures["horizons"]))
    overall = ("all that move", figures["overall"]["unit"], *(_error(value) for value in figures["overall"]["mae"]))
    rows = [overall]
    for name, group in figures["groups"].items():
        rows.append((plain(name), group["unit"], *(_error(value) for value in group["mae"])))
        if group["hold"]:
            rows.append(("  holding still", group["unit"], *(_error(value) for value in group["hold"])))
    return header, tuple(rows)


def _error(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _media(steps: Steps, name: str) -> str | None:
    file = steps.file("evaluate", f"media/{name}")
    return inline_file(file) if file else None
