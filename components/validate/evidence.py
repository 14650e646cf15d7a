"""A picture that shows a fault: a strip of frames, or a plot of the signal, as a PNG of the same bytes each time.

Drawn with Pillow, which the data image has; a plot needs nothing more.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.validate.findings import Finding
from components.validate.rules import Rule
from model.data.lerobot import ACTION, STATE, LeRobotDataset
from model.errors import UserError

FOLDER = "pictures"
PER_RULE = 5  # pictures: the first episodes show what a rule is about, a thousand of them fill a disk
STRIP, HEIGHT = 5, 160  # frames of a strip, and its height in pixels
PLOT = (900, 260)
MARGIN = (64, 26, 12, 24)  # left, top, right, bottom
INK, FAINT, MARK, SECOND = (30, 30, 30), (210, 210, 210), (198, 40, 40), (21, 101, 192)


def add_pictures(
    dataset: LeRobotDataset, findings: Sequence[Finding], rules: Sequence[Rule], output: Path
) -> list[Finding]:
    """Draws the first `PER_RULE` findings of each rule that a picture helps, into `output`/pictures."""
    kinds = {rule.name: rule.picture for rule in rules}
    drawn: dict[str, int] = {}
    pictured = []
    for finding in findings:
        kind = kinds.get(finding.rule, "")
        if not kind or finding.episode is None or drawn.get(finding.rule, 0) >= PER_RULE:
            pictured.append(finding)
            continue
        name = f"{FOLDER}/{finding.rule}_{finding.episode:06d}.png"
        image = (_strip if kind == "frames" else _plot)(dataset, finding)
        if image is None:
            pictured.append(finding)
            continue
        (output / FOLDER).mkdir(exist_ok=True)
        image.save(output / name, format="PNG", optimize=False)
        drawn[finding.rule] = drawn.get(finding.rule, 0) + 1
        pictured.append(replace(finding, picture=name))
    return pictured


def _strip(dataset: LeRobotDataset, finding: Finding) -> Any:
    """Frames of the camera around the fault, left to right; None where the evidence names none that can be read."""
    from PIL import Image, ImageDraw

    camera, frame = finding.evidence.get("camera"), int(finding.evidence.get("frame", 0))
    assert finding.episode is not None
    if not camera:
        return None
    length = dataset.episode(finding.episode).length
    span = max(STRIP, int(finding.evidence.get("frames") or STRIP))
    first = max(0, frame - 1)
    places = np.unique(np.linspace(first, min(length - 1, first + span), STRIP).astype(int))
    try:
        shown = list(dataset.frames(finding.episode, camera, [int(place) for place in places]))
    except UserError:
        return None  # another finding says that it cannot be read
    width = max(1, round(shown[0].shape[1] * HEIGHT / shown[0].shape[0]))
    strip = Image.new("RGB", (len(shown) * (width + 4) - 4, HEIGHT + 16), (255, 255, 255))
    draw = ImageDraw.Draw(strip)
    for column, (place, picture) in enumerate(zip(places, shown, strict=True)):
        strip.paste(
            Image.fromarray(picture).resize((width, HEIGHT), Image.Resampling.NEAREST), (column * (width + 4), 16)
        )
        draw.text((column * (width + 4) + 2, 2), f"frame {place}", fill=INK)
    return strip


def _plot(dataset: LeRobotDataset, finding: Finding) -> Any:
    """The offending dimension over the frames, with its counterpart in state or action, and a mark at the fault."""
    key, frame = finding.evidence.get("column"), finding.evidence.get("frame")
    dimension = int(finding.evidence.get("dimension", 0))
    assert finding.episode is not None
    if not key:
        return None
    try:
        table = dataset.table(finding.episode)
        values = dataset.column(finding.episode, table, key)[:, dimension]
        if key == "timestamp":
            values, key = np.diff(values), "step of timestamp (s)"
        feature = dataset.info.features.get(key)
        name = feature.names[dimension] if feature is not None and feature.names else ""
        series = [(f"{key} {name}".strip(), values, INK)]
        other = {STATE: ACTION, ACTION: STATE}.get(key)
        if other is not None and other in table.column_names:
            beside = dataset.column(finding.episode, table, other)
            if dimension < beside.shape[1]:
                series.append((other, beside[:, dimension], SECOND))
    except UserError:
        return None  # another finding says that it cannot be read
    return draw_plot(f"episode {finding.episode}: {finding.rule}", series, frame)


def draw_plot(title: str, series: Sequence[tuple[str, np.ndarray, tuple[int, int, int]]], frame: int | None) -> Any:
    """Lines over frames.

    Args:
        series: label, values and colour of each line.
        frame: where a red mark goes, or None.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", PLOT, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = MARGIN
    wide, high = PLOT[0] - left - right, PLOT[1] - top - bottom
    together = np.concatenate([values[np.isfinite(values)] for _, values, _ in series])
    low, top_value = (float(together.min()), float(together.max())) if len(together) else (0.0, 1.0)
    spread = (top_value - low) or max(abs(low), 1.0) * 0.1
    low, spread = low - 0.05 * spread, 1.1 * spread
    last = max(1, max(len(values) for _, values, _ in series) - 1)

    def place(index: float, value: float) -> tuple[float, float]:
        return left + wide * index / last, top + high * (1 - (value - low) / spread)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + high * (1 - share)
        draw.line([(left, y), (left + wide, y)], fill=FAINT)
        draw.text((4, y - 6), f"{low + share * spread:.4g}", fill=INK)
        x = left + wide * share
        draw.text((x - 8, top + high + 4), f"{round(share * last)}", fill=INK)
    if frame is not None and 0 <= frame <= last:
        x, _ = place(frame, low)
        draw.line([(x, top), (x, top + high)], fill=MARK, width=2)
    label = left + 8 * len(title)
    draw.text((left, 6), title, fill=INK)
    for _, values, colour in reversed(series):
        points = [place(index, float(value)) for index, value in enumerate(values) if np.isfinite(value)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=1)
    for name, _, colour in series:
        draw.text((label, 6), name, fill=colour)
        label += 8 * len(name) + 16
    return image
