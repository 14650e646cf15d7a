"""Where charts put what they draw: differences around their line at 0, rates without an interval without a whisker."""

import re
import xml.etree.ElementTree as ET

import pytest

from pipelines.report.charts import Bar, difference_bars, interval_bars


def bar(value: float, low: float | None = None, high: float | None = None) -> Bar:
    return Bar(label="a", value=value, low=low, high=high, tone="--accent")


def places(drawing: str) -> tuple[float, list[float], float]:
    """The x of the line at 0, of each dot, and of the margin."""
    tree = ET.fromstring(drawing)
    (zero,) = [line for line in tree.iter("line") if line.get("class") == "zero"]
    (margin,) = [path for path in tree.iter("path") if path.get("class") == "margin"]
    found = re.match(r"M([\d.]+)", str(margin.get("d")))
    assert found is not None
    return float(zero.get("x1", "")), [float(dot.get("cx", "")) for dot in tree.iter("circle")], float(found[1])


def test_differences_lie_around_the_line_at_0_in_proportion():
    zero, (none, better, worse), margin = places(
        difference_bars([bar(0.0), bar(0.05, -0.02, 0.1), bar(-0.1)], title="t", margin=0.05)
    )
    assert none == pytest.approx(zero, abs=0.1)
    assert better - zero == pytest.approx(zero - margin, abs=0.2) and zero - margin > 10
    assert zero - worse == pytest.approx(2 * (better - zero), abs=0.2)


@pytest.mark.parametrize(("high", "reach"), [(0.1, "+10"), (0.11, "+20"), (0.4, "+50"), (0.6, "+100")])
def test_the_axis_reaches_as_far_as_the_widest_interval(high, reach):
    drawing = ET.fromstring(difference_bars([bar(0.02, -0.01, high)], title="t"))
    ticks = [text for text in drawing.iter("text") if text.get("class") == "tick"]
    assert ticks[-1].text == reach and ticks[2].text == "0"
    (label,) = [text for text in drawing.iter("text") if text.get("class") == "label"]
    assert float(ticks[0].get("x", "")) == float(label.get("x", "")) + 10, "it begins beside the labels"


def test_what_has_no_interval_has_no_whisker():
    drawing = ET.fromstring(interval_bars([bar(0.5), bar(0.5, 0.4, 0.6)], title="t"))
    assert [len(list(mark.iter("path"))) for mark in drawing.iter("g")] == [0, 1]
