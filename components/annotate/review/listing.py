"""The list of episodes beside the page: in order, filtered, a page at a time, and which one is next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.annotate.episodes import Row, is_finished
from model.data.annotations import ACCEPTED, FAILED

Order = Literal["number", "confidence", "sample"]
State = Literal["all", "open", "accepted", "failed"]


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which episodes, in which order.

    Attributes:
        order: by number, least confident first, or as in the sample.
        state: `open` are those that are not accepted whole; `failed` those with a segment that got no text.
        words: a part of a task or sub-task, or an episode's number; "" for any.
    """

    order: Order = "number"
    state: State = "all"
    words: str = ""


class Listing:
    """Lists what there is to review.

    Args:
        sample: only these episodes, in this order; None for all.
    """

    def __init__(self, sample: Sequence[int] | None = None) -> None:
        self._place = None if sample is None else {episode: place for place, episode in enumerate(sample)}

    def page(self, episodes: Mapping[int, Sequence[Row]], filter: Filter, offset: int, limit: int) -> dict[str, Any]:
        """`total` that pass the filter, the `episodes` from `offset` on, and how many of all are `accepted`."""
        ordered = self._ordered(episodes, filter.order)
        found = [episode for episode in ordered if _passes(episode, episodes[episode], filter)]
        return {
            "total": len(found),
            "offset": offset,
            "episodes": [_summary(episode, episodes[episode]) for episode in found[offset : offset + limit]],
            "all": len(ordered),
            "accepted": sum(is_finished(episodes[episode]) for episode in ordered),
        }

    def place(self, episodes: Mapping[int, Sequence[Row]], filter: Filter, episode: int) -> int | None:
        """How many of those that pass the filter come before an episode; None where it does not pass."""
        passing = [each for each in self._ordered(episodes, filter.order) if _passes(each, episodes[each], filter)]
        return passing.index(episode) if episode in passing else None

    def beside(self, episodes: Mapping[int, Sequence[Row]], filter: Filter, start: int | None, step: int) -> int | None:
        """The first that passes the filter after (step 1) or before (step -1) an episode, which need not pass itself;
        from the beginning for None. None when there is no other."""
        ordered = self._ordered(episodes, filter.order)
        if start is None or start not in ordered:
            waiting = ordered
        else:
            place = ordered.index(start)
            waiting = ordered[place + 1 :] if step > 0 else ordered[:place][::-1]
        return next((episode for episode in waiting if _passes(episode, episodes[episode], filter)), None)

    def _ordered(self, episodes: Mapping[int, Sequence[Row]], order: Order) -> list[int]:
        place = self._place
        listed = sorted(episode for episode in episodes if place is None or episode in place)
        if order == "confidence":
            return sorted(listed, key=lambda episode: _confidence(episodes[episode]))
        if order == "sample" and place is not None:
            return sorted(listed, key=place.__getitem__)
        return listed


def _confidence(rows: Sequence[Row]) -> float:
    return min(row["confidence"] for row in rows)


def _passes(episode: int, rows: Sequence[Row], filter: Filter) -> bool:
    words = filter.words.strip().lower()
    if words != str(episode) and not any(
        words in f"{row['task']}\n{row['sub_task']}\n{row['atomic_action']}".lower() for row in rows
    ):
        return False
    match filter.state:
        case "open":
            return not is_finished(rows)
        case "accepted":
            return is_finished(rows)
        case "failed":
            return any(row["review_state"] == FAILED for row in rows)
    return True


def _summary(episode: int, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "episode": episode,
        "task": rows[0]["task"],
        "segments": len(rows),
        "accepted": sum(row["review_state"] == ACCEPTED for row in rows),
        "failed": sum(row["review_state"] == FAILED for row in rows),
        "confidence": round(_confidence(rows), 3),
        "reviewer": max(rows, key=lambda row: row["reviewed_at"])["reviewer"],
    }
