"""What the rates must be read beside: latency, violations, and leakage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.report.steps import Steps


@dataclass(frozen=True, kw_only=True)
class Line:
    """A sentence; `alarm` when it takes the evidence's worth away."""

    text: str
    alarm: bool = False


def trust(steps: Steps) -> tuple[Line, ...]:
    """Only what the evaluation holds: those of older runs have less."""
    found = steps.json("evaluate", "evaluation.json") or {}
    lines = []
    if found.get("closed_loop") and found.get("latency"):
        lines.append(_acting(found["latency"], found.get("violations")))
    if found.get("leakage"):
        lines.append(_leakage(found["leakage"], found.get("digests") or {}))
    return tuple(lines)


def _acting(latency: Mapping[str, Any], violations: Mapping[str, int] | None) -> Line:
    injected = latency["injected_ms"]
    waited = f"{injected:g} ms from a look to its chunk were simulated" if injected else "no latency was simulated"
    chunking = "real-time chunking" if latency["real_time"] else "receding horizon"
    text = f"Latency: {waited}, {chunking}."
    if violations is None:
        return Line(text=text)
    return Line(
        text=f"{text} Violations in all trials of the policy: {violations['limits']} commanded values beyond a joint's "
        f"limits, {violations['velocity']} changes faster than its velocity.",
    )


def _leakage(record: Mapping[str, Any], digests: Mapping[str, str]) -> Line:
    seeds, copies = record["shared_seeds"], record["shared_episodes"]
    evaluated = _count(record["evaluation_seeds"])
    if seeds:
        scenes = f"{_count(seeds)} of {evaluated} evaluated scenes were trained on (seeds {_spoken(seeds)})"
    elif not evaluated:
        scenes = "no scene was evaluated"
    elif record["training_seeds"] is None:
        scenes = f"{evaluated} scenes were evaluated, and the scenes of training are not known"
    else:
        scenes = f"none of {evaluated} evaluated scenes was trained on"
    verb = "are" if len(copies) > 1 else "is"
    episodes = f"{len(copies) or 'none'} of {record['holdout_episodes']} held-out episodes {verb} in training"
    text = f"Leakage: {scenes}; {episodes} ({record['training_episodes']} episodes)."
    sets = record.get("training_sets") or ()
    if sets:
        seen = "; ".join(f"{' and '.join(one['stages'])} {one['episodes']} of {one['robot']}" for one in sets)
        text += f" Episodes by stage: {seen}."
    text += "".join(f" {sentence[:1].upper()}{sentence[1:]}." for sentence in record.get("unknown", ()))
    if "trials" in digests:
        text += f" The trials have the sha256 {digests['trials'][:12]}."
    return Line(text=text, alarm=bool(seeds or copies))


def _count(ranges: Sequence[Sequence[int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _spoken(ranges: Sequence[Sequence[int]]) -> str:
    text = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges[:5])
    return text + (", ..." if len(ranges) > 5 else "")
