"""The findings of a study in sentences, each figure with its interval."""

from collections.abc import Iterator, Mapping
from typing import Any

TITLES = {"sr": "Success rate", "ps": "Progress score", "open_loop": "Open-loop error"}
MISSING = {"sr": "failures", "ps": "missed progress", "open_loop": "error"}


def conclusions(study: Mapping[str, Any]) -> list[str]:
    """What `study_figures` gave, for a person: the ends of each curve, its law, and differences on the same scenes."""
    return [*_ends(study), *_laws(study), *_differences(study)]


def amount_text(axis: str, amount: float) -> str:
    """An amount as it was asked for: 25% of the data, 0.5 hours, 80 demonstrations a task."""
    if axis == "share":
        return f"{100 * amount:g}% of the data"
    return f"{amount:g} {'hours' if axis == 'hours' else 'demonstrations a task'}"


def percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def rate_text(scores: Mapping[str, Any], metric: str) -> str:
    """A rate with its 95% interval: 40% [31, 50]."""
    low, high = 100 * scores[f"{metric}_low"], 100 * scores[f"{metric}_high"]
    return f"{percent(scores[metric])} [{low:.0f}, {high:.0f}]"


def points_text(difference: Mapping[str, Any], metric: str) -> str:
    """A difference of rates in points with its 95% interval: -6 [-15, +3]."""
    low, high = 100 * difference[f"{metric}_low"], 100 * difference[f"{metric}_high"]
    return f"{100 * difference[metric]:+.0f} [{low:+.0f}, {high:+.0f}]"


def law_text(law: Mapping[str, Any]) -> str:
    """The exponent with its interval, or without where there are too few policies."""
    if law["exponent_low"] is None:
        return f"exponent {law['exponent']:.2f}, no interval from {law['runs']} policies"
    return f"exponent {law['exponent']:.2f} [{law['exponent_low']:.2f}, {law['exponent_high']:.2f}]"


def _ends(study: Mapping[str, Any]) -> Iterator[str]:
    first, last = study["points"][0], study["points"][-1]
    between = f"from {first['x']:.3g} to {last['x']:.3g} {study['unit']}"
    if first["sr"] is None:
        yield f"No closed loop: {study['closed_loop_reason']}"
    else:
        yield (
            f"{between.capitalize()}: success rate {rate_text(first, 'sr')} to {rate_text(last, 'sr')}, progress score "
            f"{rate_text(first, 'ps')} to {rate_text(last, 'ps')}"
        )
    if first["open_loop"] is not None:
        yield (
            f"{between.capitalize()}: error {study['horizon']} steps ahead on held-out episodes "
            f"{first['open_loop']:.3g} to {last['open_loop']:.3g} standard deviations"
        )


def _laws(study: Mapping[str, Any]) -> Iterator[str]:
    for metric, law in study["laws"].items():
        if law["reason"] is not None:
            yield f"{TITLES[metric]}: no power law, {law['reason']}"
        elif law["exponent_low"] is None:
            left = f"{percent(law['doubling'])} of the {MISSING[metric]}"
            yield f"{TITLES[metric]}: twice the data leaves {left} ({law_text(law)})"
        elif law["exponent_low"] <= 0 <= law["exponent_high"]:
            yield f"{TITLES[metric]}: these {law['runs']} policies show no trend ({law_text(law)})"
        else:
            low, high = 100 * law["doubling_low"], 100 * law["doubling_high"]
            yield (
                f"{TITLES[metric]}: twice the data leaves {percent(law['doubling'])} [{low:.0f}, {high:.0f}] of the "
                f"{MISSING[metric]} ({law_text(law)})"
            )


def _differences(study: Mapping[str, Any]) -> Iterator[str]:
    for difference in study["differences"]:
        if difference["sr"] is not None:
            fewer, most = (amount_text(study["axis"], difference[key]) for key in ("amount", "against"))
            yield (
                f"{fewer.capitalize()} against {most}, on the same scenes: success rate "
                f"{points_text(difference, 'sr')} points, progress score {points_text(difference, 'ps')}"
            )
