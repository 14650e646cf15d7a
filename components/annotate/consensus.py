"""One annotation from two reviewers': what they agree on is accepted, what they dispute is left to a third look."""

from typing import Any

from components.annotate.agreement import reviewers
from components.annotate.episodes import Row, Rows, by_episode, is_finished, overlapping, same_segments
from model.data.annotations import UNREVIEWED

SETTLED = ("atomic_action", "arm")  # both reviewers must say the same
DISPUTED = "disputed: "


def consensus(first: Rows, second: Rows, fps: float, *, tolerance: float = 0.2) -> list[dict[str, Any]]:
    """The rows of both files as one.

    A segment of an episode that both have reviewed is agreed on when both have it (IoU above one half), call it the
    same, and put either end within `tolerance` seconds of each other. It becomes one accepted row, cut half way
    between, in the words of the first reviewer. Every other segment there is disputed: a row of the first reviewer, or
    of the second where the first has nothing, unreviewed, with confidence 0 and what each said as the reason.
    Episodes that one alone has reviewed are taken from that one, the rest from the first file.
    """
    sides = by_episode(first), by_episode(second)
    made: list[dict[str, Any]] = []
    for episode in sorted(sides[0].keys() | sides[1].keys()):
        one, other = (side.get(episode, []) for side in sides)
        if is_finished(one) and is_finished(other):
            made += _settle(one, other, round(tolerance * fps))
        else:
            made += [dict(row) for row in (other if is_finished(other) or not one else one)]
    return made


def is_disputed(row: Row) -> bool:
    """Whether a row of a consensus is one that the reviewers did not agree on."""
    return bool(row["review_state"] == UNREVIEWED and row["reason"].startswith(DISPUTED))


def _settle(first: Rows, second: Rows, frames: int) -> list[dict[str, Any]]:
    """The rows of one episode; ends of an agreed segment lie at most so many `frames` apart."""
    agreed = [(one, other) for one, other in same_segments(first, second) if _agrees(one, other, frames)]
    made = [_merged(one, other) for one, other in agreed]
    settled = {row["start"] for row, _ in agreed}, {row["start"] for _, row in agreed}
    names = [", ".join(reviewers(rows)) for rows in (first, second)]
    disputed = [
        _disputed(row, made, f"{names[0]} {_said([row])}; {names[1]} {_said(overlapping(row, second))}")
        for row in first
        if row["start"] not in settled[0]
    ]
    disputed += [
        _disputed(row, made, f"{names[0]} nothing; {names[1]} {_said([row])}")
        for row in second
        if row["start"] not in settled[1] and not overlapping(row, first)
    ]
    rows = made + [row for row in disputed if row["start"] < row["end"]]
    return sorted(rows, key=lambda row: int(row["start"]))


def _agrees(one: Row, other: Row, frames: int) -> bool:
    ends = (abs(one[end] - other[end]) for end in ("start", "end"))
    return all(one[name] == other[name] for name in SETTLED) and max(ends) <= frames


def _merged(one: Row, other: Row) -> dict[str, Any]:
    """The first's row with both ends half way between: neighbours that met still meet."""
    middle = {end: (one[end] + other[end]) // 2 for end in ("start", "end")}
    when = max(one["reviewed_at"], other["reviewed_at"])
    return {**one, **middle, "reviewer": ", ".join(reviewers([one, other])), "reviewed_at": when}


def _disputed(row: Row, agreed: Rows, said: str) -> dict[str, Any]:
    """The row without the frames that agreed segments took when they moved; it may be left with none."""
    start = max([row["start"], *(one["end"] for one in overlapping(row, agreed) if one["start"] <= row["start"])])
    end = min([row["end"], *(one["start"] for one in overlapping(row, agreed) if one["start"] > row["start"])])
    doubt = dict.fromkeys(("confidence", "start_confidence", "end_confidence"), 0.0)
    nobody = {"review_state": UNREVIEWED, "reviewer": "", "reviewed_at": ""}
    return {**row, **doubt, **nobody, "start": start, "end": end, "reason": DISPUTED + said}


def _said(rows: Rows) -> str:
    return ", ".join(f"{row['atomic_action']} {row['start']}-{row['end']}" for row in rows) or "nothing"
