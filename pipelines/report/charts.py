"""Charts as inline SVG. Colours are CSS variables of the page, so that they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from pipelines.report.text import points

PALETTE = 7  # --series-1 to --series-7 in page.css


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A rate, or a difference of rates, with its interval; `tone` is a CSS variable's name.

    `low` and `high` are None together, where no interval is known.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    tone: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve. x and y have equal lengths; `tone` is a CSS variable's name."""

    label: str
    x: np.ndarray
    y: np.ndarray
    tone: str


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of the x axis with a name."""

    start: float
    end: float
    label: str


def interval_bars(bars: Sequence[Bar], *, title: str, labels: bool = True, width: int = 460) -> Markup:
    """Rates from 0 to 100% as bars with whiskers for their 95% intervals and the figures at the right."""
    row, top = 34, 34
    longest = max((len(bar.label) for bar in bars), default=0)
    left, right = (max(132, round(6.6 * longest) + 12) if labels else 8), 128
    inner = width - left - right
    height = top + row * len(bars) + 22

    def x(rate: float) -> float:
        return left + inner * rate

    parts = [f'<text class="title" x="{left}" y="15">{escape(title)}</text>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{height - 20}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" y="{height - 6}">{tick:.0%}</text>')
    for number, bar in enumerate(bars):
        y = top + row * number + row / 2 - 4
        figures = f"{bar.value:.0%}"
        whisker, interval, said = "", "", ""
        if bar.low is not None and bar.high is not None:
            whisker = _whisker(x(bar.low), x(bar.high), y)
            interval = f"{100 * bar.low:.0f} to {100 * bar.high:.0f}"
            said = f", 95% interval {interval}"
        if labels:
            parts.append(_label(bar.label, left, y))
        parts.append(
            f"<g><title>{escape(bar.label)}: {figures}{said}</title>"
            f'<rect x="{left}" y="{y - 7}" width="{inner}" height="14" fill="transparent"/>'
            f'<rect x="{left}" y="{y - 6}" width="{max(x(bar.value) - left, 1.5):.1f}" height="12" rx="2" '
            f'fill="var({bar.tone})"/>{whisker}</g>'
        )
        parts.append(_figures(figures, interval, width - right + 12, y))
    return _svg(parts, width, height, title)


def difference_bars(bars: Sequence[Bar], *, title: str, margin: float | None = None, width: int = 540) -> Markup:
    """Differences of rates in points as dots with whiskers around a line at 0, with the figures at the right.

    `margin` draws a dashed line: how much worse is still allowed.
    """
    row, top, right = 30, 34, 138
    left = max(132, round(6.6 * max((len(bar.label) for bar in bars), default=0)) + 12)
    reach = max((abs(end) for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None), default=0.0)
    reach = next(limit for limit in (0.1, 0.2, 0.5, 1.0) if max(reach, margin or 0.0) <= limit + 1e-9)
    inner, height = width - left - right, top + row * len(bars) + 22

    def x(difference: float) -> float:
        return left + inner * (difference + reach) / (2 * reach)

    parts = [f'<text class="title" x="{left}" y="15">{escape(title)}</text>']
    for tick in (-reach, -reach / 2, 0.0, reach / 2, reach):
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{height - 20}"/>')
        said = "0" if tick == 0 else points(tick)
        parts.append(f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" y="{height - 6}">{said}</text>')
    if margin is not None:
        parts.append(
            f"<g><title>allowed: {points(-margin)} points</title>"
            f'<path class="margin" d="M{x(-margin):.1f} {top - 6}V{height - 20}"/></g>'
        )
    for number, bar in enumerate(bars):
        y = top + row * number + row / 2 - 4
        whisker, interval, said = "", "", ""
        if bar.low is not None and bar.high is not None:
            whisker = _whisker(x(bar.low), x(bar.high), y)
            interval = f"{points(bar.low)} to {points(bar.high)}"
            said = f", 95% interval {interval}"
        parts.append(_label(bar.label, left, y))
        parts.append(
            f"<g><title>{escape(bar.label)}: {points(bar.value)} points{said}</title>"
            f'<rect x="{left}" y="{y - 7}" width="{inner}" height="14" fill="transparent"/>{whisker}'
            f'<circle cx="{x(bar.value):.1f}" cy="{y}" r="5" fill="var({bar.tone})"/></g>'
        )
        parts.append(_figures(points(bar.value), interval, width - right + 12, y))
    return _svg(parts, width, height, title)


def lines(
    curves: Sequence[Line],
    *,
    title: str,
    x_label: str,
    spans: Sequence[Span] = (),
    width: int = 520,
    height: int = 240,
    allow_log: bool = False,
) -> Markup:
    """Curves over one axis, with a legend of their names. Logarithmic when asked for and all is positive and wide."""
    values = np.concatenate([curve.y for curve in curves])
    x_all = np.concatenate([curve.x for curve in curves])
    logarithmic = allow_log and values.min() > 0 and values.max() / values.min() > 8
    low, high = _limits(values, logarithmic)
    x_low, x_high = float(x_all.min()), float(max(x_all.max(), x_all.min() + 1e-9))
    lanes = _lanes(spans)
    legend = _legend(curves, 46, 33, width)
    spans_top = 28 + 15 * len(legend)
    left, right, top, bottom = 46.0, 10, spans_top + 15 * (max(lanes, default=-1) + 1), 34
    inner_w, inner_h = width - left - right, height - top - bottom

    def px(value: float) -> float:
        return left + inner_w * (value - x_low) / (x_high - x_low)

    def py(value: float) -> float:
        share = (math.log(value / low) / math.log(high / low)) if logarithmic else (value - low) / (high - low)
        return top + inner_h * (1 - share)

    parts = [f'<text class="title" x="{left}" y="15">{escape(title)}{" (logarithmic)" if logarithmic else ""}</text>']
    parts += [part for row in legend for part in row]
    for number, (span, lane) in enumerate(zip(spans, lanes, strict=True)):
        begin, end = px(max(span.start, x_low)), px(min(span.end, x_high))
        row = spans_top + 15 * lane
        parts.append(
            f"<g><title>{escape(span.label)}</title>"
            f'<rect class="span{number % 2}" x="{begin:.1f}" y="{row}" width="{max(end - begin, 1):.1f}" '
            f'height="{top + inner_h - row}"/>'
            f'<text class="span" x="{begin + 3:.1f}" y="{row + 11}">{escape(_fit(span.label, end - begin))}</text></g>'
        )
    for tick in _ticks(low, high, logarithmic):
        y = py(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{left - 6}" y="{y + 3.5:.1f}">{tick:g}</text>')
    for tick in _ticks(x_low, x_high, False):
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{px(tick):.1f}" y="{height - bottom + 15}">{tick:g}</text>'
        )
    parts.append(f'<text class="tick" text-anchor="end" x="{width - right}" y="{height - 4}">{escape(x_label)}</text>')
    for curve in curves:
        path = " ".join(f"{px(a):.1f},{py(b):.1f}" for a, b in zip(curve.x, curve.y, strict=True))
        parts.append(
            f"<g><title>{escape(curve.label)}: {curve.y[0]:.3g} to {curve.y[-1]:.3g}</title>"
            f'<polyline class="curve" stroke="var({curve.tone})" points="{path}"/></g>'
        )
    return _svg(parts, width, height, title)


def tone(number: int) -> str:
    return f"--series-{number % PALETTE + 1}"


def _whisker(low: float, high: float, y: float) -> str:
    return f'<path class="whisker" d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 4}v8M{high:.1f} {y - 4}v8"/>'


def _label(text: str, left: float, y: float) -> str:
    return f'<text class="label" text-anchor="end" x="{left - 10}" y="{y + 4}">{escape(text)}</text>'


def _figures(value: str, interval: str, x: float, y: float) -> str:
    beside = f'<tspan class="muted" dx="7">{interval}</tspan>' if interval else ""
    return f'<text class="value" x="{x}" y="{y + 4}">{value}{beside}</text>'


def _svg(parts: Sequence[str], width: int, height: float, title: str) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{body}</svg>'
    )


def _legend(curves: Sequence[Line], left: float, y: float, width: int) -> list[list[str]]:
    """Rows of names beside dots; none for a single curve, which the title names."""
    if len(curves) < 2:
        return []
    rows: list[list[str]] = [[]]
    x = left
    for curve in curves:
        needed = 20 + 5.8 * len(curve.label)
        if x + needed > width and rows[-1]:
            rows.append([])
            x = left
        baseline = y + 15 * (len(rows) - 1)
        rows[-1].append(f'<circle cx="{x + 4:.1f}" cy="{baseline - 4:.1f}" r="4" fill="var({curve.tone})"/>')
        rows[-1].append(f'<text class="tick" x="{x + 12:.1f}" y="{baseline:.1f}">{escape(curve.label)}</text>')
        x += needed
    return rows


def _lanes(spans: Sequence[Span]) -> list[int]:
    """A row for each span so that overlapping ones lie below each other."""
    ends: list[float] = []
    lanes = []
    for span in spans:
        lane = next((i for i, end in enumerate(ends) if end <= span.start + 1e-9), len(ends))
        ends[lane:] = [span.end, *ends[lane + 1 :]]
        lanes.append(lane)
    return lanes


def _fit(label: str, pixels: float) -> str:
    room = int(pixels / 5.6) - 1
    if len(label) <= room:
        return label
    return label[: room - 1] + "…" if room > 3 else ""


def _limits(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        return low / 1.1, high * 1.1
    margin = 0.06 * (high - low) or max(abs(high), 1) * 0.1
    return low - margin, high + margin


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 3) if high / low < 1000 else (1,)
        return [float(f"{s}e{d}") for d in decades for s in steps if low <= float(f"{s}e{d}") <= high]
    rough = (high - low) / 4
    base = 10 ** math.floor(math.log10(rough))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= rough)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]
