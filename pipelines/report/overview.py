"""What the page says first and last: the verdict, the headline figures, the steps with their times, the lineage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.report.steps import Steps
from pipelines.report.text import number, percent, points, size

STATUS = {"done": "ran", "cached": "reused", "waiting": "not run", "running": "running", "failed": "failed"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome in one line and why; `tone` is good, warning or neutral."""

    headline: str
    reasons: tuple[str, ...]
    tone: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tile:
    label: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    status: str
    seconds: float | None
    share: float
    bytes: int
    note: str


def verdict(steps: Steps) -> Verdict:
    promotion, version = steps.summary("promote"), steps.summary("register")
    if promotion:
        what = f"{promotion['model']} version {promotion['version']}"
        headline = f"{what} is {promotion['alias']}" if promotion["promoted"] else f"{what} was not promoted"
        reasons = str(promotion["verdict"]).partition(": ")[2].split("; ")
        return Verdict(
            headline=headline,
            reasons=tuple(reason[:1].upper() + reason[1:] for reason in reasons),
            tone="good" if promotion["promoted"] else "warning",
            warnings=tuple(promotion["warnings"]),
        )
    if version:
        headline = f"{version['model']} version {version['version']} is registered"
        return Verdict(headline=headline, reasons=("Promotion was not reached",), tone="neutral")
    return Verdict(headline="No version was registered", reasons=("The run did not get that far",), tone="neutral")


def tiles(steps: Steps) -> list[Tile]:
    """The figures that decide, each with what it must be read beside."""
    found = []
    evaluation = steps.summary("evaluate")
    closed = evaluation.get("closed_loop")
    if isinstance(closed, Mapping):
        policy = closed["policy"]
        for key, label in (("sr", "Success rate"), ("ps", "Progress score")):
            low, high = 100 * policy[f"{key}_low"], 100 * policy[f"{key}_high"]
            note = f"{low:.0f} to {high:.0f} in {policy['trials']} trials"
            found.append(Tile(label=label, value=percent(policy[key]), note=note))
        against = evaluation["paired"].get("vs_mean_replay")
        if against:
            value = f"{points(against['difference'])} points"
            note = f"{points(against['low'])} to {points(against['high'])} on the same scenes"
            found.append(Tile(label="Beside mean replay", value=value, note=note))
    validation, packed = steps.summary("validate"), steps.summary("pack")
    if validation:
        hours = validation["hours"]
        length = f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:.1f} hours"
        note = f"{length}, {validation['quarantined']} quarantined"
        found.append(Tile(label="Episodes", value=number(validation["usable"]), note=note))
    elif packed:
        found.append(Tile(label="Episodes", value=number(packed["episodes"]), note=f"{packed['hours']:.2f} hours"))
    trained = steps.summary("finetune") or steps.summary("pretrain")
    if trained:
        note = f"depth alignment {trained['depth_alignment'].partition(':')[0]}"
        found.append(Tile(label="Parameters", value=_millions(trained["parameters"]), note=note))
    return found


def stages(entries: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """A line a step: how it went, how long it took (when it was made), what it left."""
    times = [_seconds(entry) for entry in entries]
    longest = max((time for time in times if time is not None), default=None)
    return [
        Stage(
            name=entry["name"],
            status=STATUS.get(entry["status"], str(entry["status"])),
            seconds=time,
            share=time / longest if time is not None and longest else 0.0,
            bytes=entry.get("bytes") or 0,
            note=_note(entry),
        )
        for entry, time in zip(entries, times, strict=True)
    ]


def lineage(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the result came from, so that it can be made again."""
    code, machine = run.get("code") or {}, run.get("hardware") or {}
    commit = code.get("commit")
    rows = [
        ("code", f"{commit}{' with uncommitted changes' if code.get('dirty') else ''}" if commit else "no git checkout")
    ]
    rows += [(f"digest of {entry['name']}", entry["digest"]) for entry in run["steps"] if entry.get("digest")]
    if machine:
        cores = f"{machine['cores']} cores, {size(machine['memory'])}"
        rows.append(("machine", f"{machine['processor']}, {cores}, {run.get('threads')} training threads"))
    if run.get("versions"):
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())))
    if run.get("command"):
        rows.append(("command", run["command"]))
    return rows


def parameters(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The parameters of each step."""
    return [
        (entry["name"], [(name, number(value)) for name, value in entry["parameters"].items()])
        for entry in entries
        if entry.get("parameters")
    ]


def _seconds(entry: Mapping[str, Any]) -> float | None:
    """How long the step took when it was made: now, or in an earlier run."""
    return entry.get("made_in_seconds") or entry.get("seconds")


def _note(entry: Mapping[str, Any]) -> str:
    """The step's own figures that are plain numbers or words; the rest is further down the page."""
    summary = entry.get("summary") or {}
    short = {
        name: value
        for name, value in summary.items()
        if isinstance(value, (int, float, str)) and not (isinstance(value, str) and len(value) > 48)
    }
    return ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in list(short.items())[:5])


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"
