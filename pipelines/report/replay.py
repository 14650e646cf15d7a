"""The page of a replay: what the robots were sent beside what the candidate would have sent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATES = Path(__file__).parent
JOINTS = 14  # rows of the table of joints, those that differ most


def write_replay_page(report: Mapping[str, Any], output: Path) -> Path:
    """Writes the page of a report of `components.endpoint.replay` to the file `output`; it loads nothing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from pipelines.report.text import FILTERS

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(FILTERS)
    text = environment.get_template("replay.html").render(
        report=report,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        headline=headline(report),
        tiles=tiles(report),
        chart=_by_step(report),
        joints=_joints(report),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    return output


def headline(report: Mapping[str, Any]) -> str:
    """What the replay says, in a sentence."""
    candidate, divergence = report["candidate"], report["divergence"]
    said = (
        f"{candidate['model']} version {candidate['version']} differs from what {report['looks']} recorded looks were "
        f"answered by {divergence['mean']:.2g} of a joint's spread"
    )
    return said if divergence["own_noise"] is None else f"{said}; from itself, by {divergence['own_noise']:.2g}"


def tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, figure, note) of each figure that a gate may ask for."""
    jerk, violations, latency = report["jerk"], report["violations"], report["latency_ms"]
    ratio = "none" if jerk["ratio"] is None else f"{jerk['ratio']:.2f}x"
    return [
        ("Divergence", f"{report['divergence']['mean']:.3g}", f"95th percentile {report['divergence']['p95']:.3g}"),
        ("Jerk", ratio, "of what was sent"),
        ("Start of a chunk", _ratio(report["jump"]), "distance to the joints, of what was sent"),
        (
            "Beyond a limit",
            str(violations["candidate"]),
            f"of {violations['values']:,} values; {violations['recorded']} when recorded",
        ),
        (
            "Model's time, p99",
            f"{latency['candidate']['p99']:.0f} ms",
            f"{latency['recorded']['p99']:.0f} ms when recorded",
        ),
        ("Not answered", str(report["refused"]["count"] + report["unsafe"]["count"]), "refused, or unsafe to send"),
    ]


def _ratio(pair: Mapping[str, Any]) -> str:
    return "none" if pair["ratio"] is None else f"{pair['ratio']:.2f}x"


def _by_step(report: Mapping[str, Any]) -> Any:
    from pipelines.report.charts import Line, lines

    steps = np.asarray(report["divergence"]["by_step"])
    if len(steps) < 2:
        return ""
    line = Line(label="divergence", x=np.arange(1, len(steps) + 1, dtype=float), y=steps, tone="--series-1")
    return lines([line], title="Difference along the chunk, in standard deviations", x_label="step of the chunk")


def _joints(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, mean difference in its unit, share of its spread), largest share first."""
    by_joint, spread = report["divergence"]["by_joint"], report["divergence"]["spread"]
    shares = sorted(((by_joint[name] / spread[name], name) for name in by_joint), reverse=True)[:JOINTS]
    return [(name, f"{by_joint[name]:.4f}", f"{share:.3g}") for share, name in shares]
