"""The figure of a study: each score over the amount of data, with intervals and the power law. SVG, and PNG to look at.

Equal studies give equal bytes: no dates, no random ids, fixed sizes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.evaluation.study_words import TITLES, law_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, INK, SOFT = "#2a6fdb", "#16181d", "#8a8f98"
DOTS_PER_INCH = 130


def save_study(path: Path, study: Mapping[str, Any]) -> None:
    """Writes `path`.svg and `path`.png: a panel for each score that the study has."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    metrics = [metric for metric in TITLES if study["points"][0][metric] is not None]
    style: dict[Any, Any] = {"svg.hashsalt": "study", "svg.fonttype": "path", "font.size": 9, "axes.edgecolor": SOFT}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, len(metrics), figsize=(4.1 * len(metrics), 3.8), squeeze=False)
        for axis, metric in zip(axes[0], metrics, strict=True):
            _panel(axis, study, metric)
        # the last panel has a law where any has one
        figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=8, frameon=False)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(path.with_suffix(".png"), dpi=DOTS_PER_INCH, metadata={"Software": None})
        plt.close(figure)


def _panel(axis: "Axes", study: Mapping[str, Any], metric: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

    rate = metric != "open_loop"
    law, points = study["laws"][metric], study["points"]
    axis.set_xscale("log")
    if law["reason"] is None:
        curve = law["curve"]
        axis.plot(curve["x"], _shown(curve["error"], rate), color=BLUE, linewidth=1.4, zorder=2, label="power law")
        if curve["low"] is not None:
            bounds = _shown(curve["low"], rate), _shown(curve["high"], rate)
            axis.fill_between(curve["x"], *bounds, color=BLUE, alpha=0.13, linewidth=0, label="its 95% interval")
    runs = [run for run in study["runs"] if run[metric] is not None]
    axis.plot(
        [run["x"] for run in runs], [run[metric] for run in runs],
        "o", color=SOFT, markersize=3.5, alpha=0.75, zorder=3, label="one policy",
    )  # fmt: skip
    if points[0][f"{metric}_low"] is not None:
        below = [max(point[metric] - point[f"{metric}_low"], 0.0) for point in points]
        above = [max(point[f"{metric}_high"] - point[metric], 0.0) for point in points]
        spread = (below, above)
    else:
        spread = None
    axis.errorbar(
        [point["x"] for point in points], [point[metric] for point in points], yerr=spread,
        fmt="o", color=INK, markersize=5.5, capsize=3, linewidth=1.1, zorder=4, label="mean, 95%",
    )  # fmt: skip
    title = TITLES[metric] if rate else f"{TITLES[metric]}, {study['horizon']} steps ahead"
    said = law_text(law) if law["reason"] is None else "no power law"
    axis.set_title(f"{title}\n{said}", loc="left", fontsize=9)
    axis.set_xlabel(f"{study['unit']} (logarithmic)")
    axis.set_xticks([point["x"] for point in points])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    if rate:
        axis.set_ylim(-0.02, 1.02)
        axis.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        axis.set_yscale("log")
        axis.set_ylabel("standard deviations (logarithmic)")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_yticks(_ticks(study, metric))
    axis.grid(color=SOFT, alpha=0.22, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.07)


def _shown(errors: list[float], rate: bool) -> list[float]:
    """An error as it is; of a rate what is left to it, which is no less than nothing."""
    return [min(max(1 - error, 0.0), 1.0) for error in errors] if rate else errors


def _ticks(study: Mapping[str, Any], metric: str) -> list[float]:
    """Three to five values, evenly apart on a logarithmic axis: decades alone are too few."""
    import numpy as np

    values = [run[metric] for run in study["runs"]]
    values += [point[key] for point in study["points"] for key in (f"{metric}_low", f"{metric}_high") if point[key]]
    return [float(f"{value:.2g}") for value in np.geomspace(min(values), max(values), 5)]
