"""The data and the training part of the page: quarantine, one episode as the robot saw it, segments, losses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pipelines.report.charts import Line, Span, lines, tone
from pipelines.report.steps import Steps
from pipelines.report.text import duration, inline_picture, number, percent, plain

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset
    from model.data.packed import PackedDataset

LISTED = 12  # quarantined episodes named one by one; the rest is counted by rule
MOMENTS = 6
CURVES = 7  # a panel; more cannot be told apart
FACTS = {
    "hours_usable": "hours usable",
    "frames": "frames",
    "fps": "frames a second",
    "robot": "robot",
    "version": "LeRobot format",
    "cameras": "cameras",
    "depth": "depth",
    "tasks": "tasks",
}
NOT_A_LOSS = ("step", "learning_rate", "gradient_norm", "skipped_batches")


@dataclass(frozen=True, kw_only=True)
class Data:
    facts: tuple[tuple[str, str], ...]
    quarantined: tuple[tuple[str, str, str], ...]
    more: str
    warnings: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training episode: a picture a camera (moments from left to right, depth below), and its curves."""

    episode: int
    task: str
    views: tuple[tuple[str, str], ...]
    moments: str
    depth_note: str
    curves: tuple[Markup, ...]
    segments_note: str


@dataclass(frozen=True, kw_only=True)
class Training:
    name: str
    chart: Markup | None
    figures: tuple[tuple[str, str], ...]


def data(steps: Steps) -> Data | None:
    """None when the run did not validate a dataset."""
    verdict = steps.json("validate", "verdict.json")
    if verdict is None:
        return None
    findings = verdict["findings"]
    bad: dict[int, list[Mapping[str, Any]]] = {}
    for finding in findings:
        if finding["severity"] == "error" and finding["episode"] is not None:
            bad.setdefault(finding["episode"], []).append(finding)
    rows = [
        (str(episode), ", ".join(sorted({plain(f["rule"]) for f in found})), str(found[0]["message"]))
        for episode, found in sorted(bad.items())
    ]
    rest = Counter(rule for _, rule, _ in rows[LISTED:])
    more = ", ".join(f"{count} for {rule}" for rule, count in rest.most_common())
    facts = [
        ("source", number(_source(steps))),
        ("episodes usable", f"{verdict['episodes_usable']} of {verdict['episodes_total']}"),
        ("quarantined", str(verdict["episodes_total"] - verdict["episodes_usable"])),
    ]
    facts += [(label, _fact(verdict["dataset"][name])) for name, label in FACTS.items()]
    packed = steps.summary("pack")
    if packed:
        facts.append(("held out of training", f"{packed['holdout_episodes']} of {packed['episodes']} packed"))
    warnings = Counter(plain(f["rule"]) for f in findings if f["severity"] == "warning")
    return Data(
        facts=tuple(facts),
        quarantined=tuple(rows[:LISTED]),
        more=f"and {len(rows) - LISTED} more: {more}" if rest else "",
        warnings=tuple(warnings.most_common()),
    )


def training(steps: Steps) -> list[Training]:
    """Pretraining and fine-tuning, those that ran."""
    found = []
    for name in ("pretrain", "finetune"):
        summary = steps.summary(name)
        if not summary:
            continue
        logged = steps.lines(name, "metrics.jsonl")
        figures = [(plain(key), _figure(key, value)) for key, value in summary.items() if not key.endswith("digest")]
        chart = _loss_chart(plain(name), logged) if len(logged) > 1 else None
        found.append(Training(name=plain(name), chart=chart, figures=tuple(figures)))
    return found


def example_episode(steps: Steps) -> Example | None:
    """One training episode with pictures, depth and annotated segments; None when nothing was packed."""
    from model.data.packed import PackedDataset

    folder = steps.file("pack", "meta.json")
    if folder is None:
        return None
    packed = PackedDataset.open(folder.parent)
    segments = _segments(steps.file("annotate", "annotations.parquet"))
    usable = packed.episodes("train") or packed.episodes()
    episode = next((number for number in usable if segments.get(number)), usable[0])
    rows = np.flatnonzero(packed.frames["episode"] == episode)
    rows = rows[np.linspace(0, len(rows) - 1, min(MOMENTS, len(rows))).round().astype(int)]
    frames = packed.frames["frame"][rows]
    views, depth_note = _views(packed, episode, rows, frames, _dataset(steps))
    whole = packed.episode(episode)
    chosen = segments.get(episode, [])
    fps = packed.meta.fps
    spans = [Span(start=s["start"] / fps, end=s["end"] / fps, label=_segment_label(s)) for s in chosen]
    return Example(
        episode=episode,
        task=packed.meta.tasks[whole["task"]],
        views=views,
        moments=", ".join(f"{frame / fps:.1f}" for frame in frames),
        depth_note=depth_note,
        curves=_curves(whole["action"], packed.meta.action_names, fps, spans),
        segments_note="" if chosen else "This episode has no annotated segments.",
    )


def _source(steps: Steps) -> Any:
    summary = steps.summary(steps.source())
    return "collected in simulation" if steps.source() == "collect" else f"ingested ({number(summary.get('version'))})"


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(part).removeprefix("observation.images.") for part in value)
    return number(value)


def _figure(key: str, value: Any) -> str:
    if key in ("data_wait", "mfu") and isinstance(value, float):
        return percent(value)
    return duration(value) if key.endswith("seconds") else number(value)


def _loss_chart(name: str, logged: Sequence[Mapping[str, float]]) -> Markup:
    names = [key for key in logged[0] if key not in NOT_A_LOSS]
    x = np.array([line["step"] for line in logged], float)
    curves = [
        Line(label=plain(key), x=x, y=np.array([line[key] for line in logged], float), tone=tone(i))
        for i, key in enumerate(names)
    ]
    return lines(curves, title=f"Losses of {name}", x_label="steps", allow_log=True)


def _segments(file: Path | None) -> dict[int, list[dict[str, Any]]]:
    """Annotated segments by episode, in order of their start."""
    if file is None:
        return {}
    from model.data.annotations import read_annotations

    found: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(read_annotations(file), key=lambda row: (row["episode"], row["start"], row["end"])):
        found.setdefault(row["episode"], []).append(row)
    return found


def _segment_label(segment: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (segment["atomic_action"], f"({segment['arm']})" if segment["arm"] else "")))


def _dataset(steps: Steps) -> "LeRobotDataset | None":
    """The dataset, where its files are here and it has depth."""
    from model.data.lerobot import LeRobotDataset

    info = steps.file(steps.source(), "meta/info.json")
    if info is None:
        return None
    dataset = LeRobotDataset.open(info.parent.parent)
    return dataset if dataset.has_depth else None


def _views(
    packed: "PackedDataset",
    episode: int,
    rows: np.ndarray,
    frames: np.ndarray,
    dataset: "LeRobotDataset | None",
) -> tuple[tuple[tuple[str, str], ...], str]:
    from model.evaluation.figures import depth_picture, depth_range, mosaic

    images = packed.images(rows)
    views = []
    for slot, camera in enumerate(packed.meta.cameras):
        grid = [list(images[:, slot])]
        if dataset is not None:
            key = next(key for key in dataset.info.cameras if key.rpartition(".")[2] == camera)
            depth = [_resize(d, packed.meta.image_size) for d in dataset.depth(episode, key, frames.tolist())]
            grid.append([depth_picture(d, depth_range(depth)) for d in depth])
        views.append((plain(camera), inline_picture(mosaic(grid))))
    return tuple(views), "" if dataset is not None else "The dataset has no depth."


def _resize(depth: np.ndarray, side: int) -> np.ndarray:
    """Nearest neighbour to `side` squared: depth is never mixed across edges."""
    rows = (np.arange(side) * depth.shape[0] // side)[:, None]
    return depth[rows, np.arange(side) * depth.shape[1] // side]


def _curves(action: np.ndarray, names: Sequence[str], fps: float, spans: Sequence[Span]) -> tuple[Markup, ...]:
    """A panel a side, with the joints that move most."""
    time = np.arange(len(action)) / fps
    sides = {"left": "Left", "right": "Right"}
    side_of = [next((side for side in sides if side in name.lower()), "") for name in names]
    panels = []
    for side in dict.fromkeys(side_of):
        dims = [dim for dim, found in enumerate(side_of) if found == side]
        moving = sorted(sorted(dims, key=lambda dim: -float(np.ptp(action[:, dim])))[:CURVES])
        curves = [
            Line(label=plain(names[dim].lower().removeprefix(f"{side}_")), x=time, y=action[:, dim], tone=tone(i))
            for i, dim in enumerate(moving)
        ]
        title = f"{sides.get(side, 'Other')} {'actions' if side else 'joints'}"
        panels.append(lines(curves, title=title, x_label="seconds", spans=spans, height=270))
    return tuple(panels)
