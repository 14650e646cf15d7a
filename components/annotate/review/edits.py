"""What a reviewer may make of an episode's segments, and what is recorded of who did it."""

import hashlib
from collections.abc import Sequence
from typing import Any

from components import state
from components.annotate.episodes import Row
from model.data.annotations import ACCEPTED, COLUMNS, UNREVIEWED
from model.errors import UserError, unknown_name

ARMS = ("left", "right", "both", "robot", "")  # as `sentences.arm_name` has them
TEXTS = ("atomic_action", "arm", "task", "sub_task", "verb", "objects")
# what a reviewer says of a segment; every other column follows from it
EDITABLE = ("start", "end", *TEXTS, "review_state")
CERTAIN = 1.0  # confidence of an end that a person has set
NEEDED = ("atomic_action", "task", "sub_task")  # of a segment that is accepted


def revision(rows: Sequence[Row]) -> str:
    """A digest of an episode's rows: two equal ones mean that nobody changed the episode in between."""
    return hashlib.sha256(state.canonical_json([dict(row) for row in rows])).hexdigest()[:16]


def settle(
    episode: int, given: Sequence[Row], known: Sequence[Row], *, length: int, reviewer: str, now: str
) -> list[dict[str, Any]]:
    """An episode's rows as a reviewer leaves them.

    A segment that is, in every word, one of `known` is that one, with all that is recorded of it. Any other has
    `reviewer` and `now`; the confidence of an end that nobody moved stays, and so does the source of unchanged texts.

    Args:
        given: segments with the columns of `EDITABLE`.
        known: rows of the episode as they were before, or earlier still.
        length: frames of the episode.
        now: ISO 8601, UTC.

    Raises:
        UserError: a segment is outside of the episode or overlaps another, a text is missing, a word is unknown.
    """
    rows = [
        _settled(episode, segment, known, reviewer, now) for segment in checked(episode, given, length, known=known)
    ]
    return sorted(rows, key=lambda row: row["start"])


def checked(episode: int, given: Sequence[Row], length: int, *, known: Sequence[Row]) -> list[dict[str, Any]]:
    """The segments in order of time, with the columns of `EDITABLE` and no others.

    Raises:
        UserError: as `settle`.
    """
    if not given:
        raise UserError(
            f"episode {episode} would have no segment left, and a later run would cut it anew: keep one, as a 'wait' "
            "where nothing is done."
        )
    segments = [_segment(episode, number, row) for number, row in enumerate(given)]
    segments.sort(key=lambda row: (row["start"], row["end"]))
    unchanged = {_said(row) for row in known}
    end = 0
    for row in segments:
        place = _place(episode, row)
        if not 0 <= row["start"] < row["end"] <= length:
            raise UserError(f"{place} lies outside of the episode's {length} frames or is empty: move its ends.")
        if row["start"] < end:
            raise UserError(f"{place} begins before the one before it ends (frame {end}): move one of them.")
        end = row["end"]
        if row["arm"] not in ARMS:
            raise unknown_name(f"arm of {place}", row["arm"], [arm for arm in ARMS if arm])
        if row["review_state"] not in (UNREVIEWED, ACCEPTED) and _said(row) not in unchanged:
            raise UserError(f"{place} has review state '{row['review_state']}': choose '{UNREVIEWED}' or '{ACCEPTED}'.")
        missing = [name for name in NEEDED if not row[name]]
        if row["review_state"] == ACCEPTED and missing:
            raise UserError(f"{place} is accepted without {' and '.join(missing)}: write it first.")
    return segments


def _segment(episode: int, number: int, given: Row) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in EDITABLE:
        kind = int if COLUMNS[name] == "int64" else str
        value = given.get(name)
        if type(value) is not kind:
            raise UserError(
                f"segment {number} of episode {episode} has {name} {value!r}: give "
                f"{'a frame number' if kind is int else 'a text'}."
            )
        row[name] = value.strip() if isinstance(value, str) else value
    return row


def _said(row: Row) -> tuple[Any, ...]:
    return _words(row, EDITABLE)


def _words(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name].strip() if isinstance(row[name], str) else row[name] for name in names)


def _place(episode: int, row: Row) -> str:
    return f"the segment of episode {episode} from frame {row['start']} to {row['end']}"


def _settled(episode: int, segment: Row, known: Sequence[Row], reviewer: str, now: str) -> dict[str, Any]:
    for row in known:
        if _said(row) == _said(segment):
            return dict(row)
    starts = {row["start"]: row["start_confidence"] for row in reversed(known)}
    ends = {row["end"]: row["end_confidence"] for row in reversed(known)}
    start, end = starts.get(segment["start"], CERTAIN), ends.get(segment["end"], CERTAIN)
    return {
        "episode": episode,
        **{name: segment[name] for name in EDITABLE},
        "source": _source(segment, known, reviewer),
        "confidence": min(start, end),
        "start_confidence": start,
        "end_confidence": end,
        "reviewer": reviewer,
        "reviewed_at": now,
        "reason": "",
    }


def _source(segment: Row, known: Sequence[Row], reviewer: str) -> str:
    """Who wrote a segment's words: of the known rows with the same ones, the one that shares most frames with it."""
    written = [row for row in known if _words(row, TEXTS) == _words(segment, TEXTS)]
    nearest = max(written, key=lambda row: _shared(row, segment), default=None)
    return reviewer if nearest is None else str(nearest["source"])


def _shared(row: Row, segment: Row) -> int:
    return int(min(row["end"], segment["end"]) - max(row["start"], segment["start"]))
