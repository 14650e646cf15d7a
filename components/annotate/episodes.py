"""Rows of an annotations table by episode, and which of its segments are the same as those of another table."""

from collections.abc import Mapping, Sequence
from typing import Any

from model.data.annotations import ACCEPTED
from model.errors import UserError

Row = Mapping[str, Any]
Rows = Sequence[Row]
SAME = 0.5  # a segment whose overlap (IoU) with another is larger can have it with no second one


def by_episode(rows: Rows) -> dict[int, list[Row]]:
    """Rows of each episode, in order of time.

    Raises:
        UserError: two segments of an episode overlap: no frame can have two labels.
    """
    found: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["episode"], row["start"])):
        before = found.setdefault(row["episode"], [])
        if before and row["start"] < before[-1]["end"]:
            raise UserError(
                f"episode {row['episode']} has a segment from frame {before[-1]['start']} to {before[-1]['end']} and "
                f"one from {row['start']}: segments may not overlap, move one of them in the review."
            )
        before.append(row)
    return found


def check_within(rows: Rows, lengths: Mapping[int, int], source: str) -> None:
    """UserError unless every segment lies in an episode of the dataset, which has `lengths` frames of each.

    Args:
        source: what the rows are, for the message.
    """
    for row in rows:
        length = lengths.get(row["episode"], 0)
        if row["end"] > length:
            raise UserError(
                f"{source}: episode {row['episode']} has a segment to frame {row['end']}, the dataset has {length} "
                "frames of it; give annotations and dataset that belong together."
            )


def is_finished(rows: Rows) -> bool:
    """Whether a person has accepted every segment of an episode."""
    return bool(rows) and all(row["review_state"] == ACCEPTED for row in rows)


def iou(one: Row, other: Row) -> float:
    """Intersection over union of two segments, in frames."""
    shared = min(one["end"], other["end"]) - max(one["start"], other["start"])
    whole = max(one["end"], other["end"]) - min(one["start"], other["start"])
    return max(0, shared) / whole if whole else 0.0


def overlapping(row: Row, others: Rows) -> list[Row]:
    """Those of `others` that share a frame with `row`."""
    return [other for other in others if other["start"] < row["end"] and row["start"] < other["end"]]


def same_segments(first: Rows, second: Rows) -> list[tuple[Row, Row]]:
    """Pairs of segments of two annotations of one episode that are the same stretch of it (IoU above one half).

    Where the segments of each side do not overlap each other, none is in two pairs, and both sides are in order.
    """
    return [(one, other) for one in first for other in overlapping(one, second) if iou(one, other) > SAME]
