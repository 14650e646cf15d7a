"""A comparison as a page of its own: everything is inside it, and it loads nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.versions.comparison import BITWISE, TOLERANCE, step_of

_TONES = {BITWISE: "good", TOLERANCE: "good"}


def write_page(comparison: Mapping[str, Any], output: Path) -> Path:
    """Writes the comparison to the file `output` and returns its path."""
    from pipelines.report.page import render

    figures = {
        name: figure
        for name, figure in comparison["figures"].items()
        if figure["agree"] is not None or figure["first"] != figure["second"]
    }
    return render(
        "comparison.html",
        output,
        comparison=comparison,
        tone=_TONES.get(comparison["outcome"], "warning"),
        effects=[step for step in comparison["steps"] if step_of(step).effects],
        figures=figures,
        details=comparison.get("differences") or {"data": None, "code": None, "trials": None},
    )
