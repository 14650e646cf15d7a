"""What a reviewer may do to segments, and what is recorded of who did it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.annotate.review.edits import EDITABLE, TEXTS, revision, settle
from model.data.annotations import complete
from model.errors import UserError

LENGTH = 60
NOW = "2026-11-23T01:02:03+00:00"


def row(start: int, end: int, action: str = "reach", **more: Any) -> dict[str, Any]:
    said = {
        "episode": 4, "start": start, "end": end, "atomic_action": action, "arm": "left", "task": "lift the cube",
        "sub_task": f"{action} it", "source": "template", "start_confidence": 0.25, "end_confidence": 0.5,
        "confidence": 0.25,
    }  # fmt: skip
    return complete({**said, **more})


def said(one: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a page sends of a row."""
    return {**{name: one[name] for name in EDITABLE}, **changes}


def settled(given: list[dict[str, Any]], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return settle(4, given, known, length=LENGTH, reviewer="kim", now=NOW)


KNOWN = [row(0, 20), row(20, 40, "lift", review_state="failed", reason="no answer"), row(45, 60, "wait")]


def test_what_is_not_touched_is_as_it_was() -> None:
    assert settled([said(one) for one in KNOWN], KNOWN) == KNOWN


def test_a_moved_cut_is_certain_and_the_other_ends_keep_what_was_known() -> None:
    first, second, third = settled(
        [said(KNOWN[0], end=25), said(KNOWN[1], start=25, review_state="unreviewed"), said(KNOWN[2])], KNOWN
    )
    assert (first["start_confidence"], first["end_confidence"], first["confidence"]) == (0.25, 1.0, 0.25)
    assert (second["start_confidence"], second["end_confidence"], second["confidence"]) == (1.0, 0.5, 0.5)
    assert first["source"] == second["source"] == "template", "the words are still the template's"
    assert (first["reviewer"], first["reviewed_at"]) == ("kim", NOW)
    assert third == KNOWN[2]


def test_changed_words_are_the_reviewer_s_and_no_failure_any_more() -> None:
    changed = said(KNOWN[1], sub_task=" lift the cube ", review_state="unreviewed")
    _, second, _ = settled([said(KNOWN[0]), changed, said(KNOWN[2])], KNOWN)
    assert second["sub_task"] == "lift the cube"
    assert (second["source"], second["reviewer"], second["reason"]) == ("kim", "kim", "")
    assert (second["start_confidence"], second["end_confidence"]) == (0.25, 0.5)


def test_accepting_records_who_and_when_and_nothing_else() -> None:
    first, *_ = settled([said(KNOWN[0], review_state="accepted"), *map(said, KNOWN[1:])], KNOWN)
    assert first == {**KNOWN[0], "review_state": "accepted", "reviewer": "kim", "reviewed_at": NOW}


def test_equal_words_keep_the_source_of_the_segment_that_they_lie_in() -> None:
    known = [row(0, 20, "wait"), row(30, 50, "wait", source="anna")]
    first, second = settled([said(known[0], end=18), said(known[1], start=28)], known)
    assert (first["source"], second["source"]) == ("template", "anna")


def test_what_was_so_before_is_so_again_with_its_record() -> None:
    earlier = row(0, 30, "approach", source="model@1")
    first, *_ = settled([said(earlier), said(KNOWN[2])], [*KNOWN, earlier])
    assert first == earlier


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, LENGTH), min_size=2, max_size=8), st.data())
def test_any_cuts_of_an_episode_are_kept_in_order_with_their_words(cuts: set[int], data: Any) -> None:
    ordered = sorted(cuts)
    texts = data.draw(st.lists(st.sampled_from(["reach", "lift", "move"]), min_size=len(cuts), max_size=len(cuts)))
    made = [row(*ends, action) for ends, action in zip(zip(ordered, ordered[1:], strict=False), texts, strict=False)]
    order = data.draw(st.permutations(made))
    rows = settled([said(one) for one in order], KNOWN)
    assert [said(one) for one in rows] == [said(one) for one in made]
    for one in rows:
        assert one["confidence"] == min(one["start_confidence"], one["end_confidence"])
        assert (one["source"] == "template") == any(all(one[t] == k[t] for t in TEXTS) for k in KNOWN)
    assert settled([said(one) for one in rows], rows) == rows, "saving again changes nothing"
    assert revision(rows) == revision([dict(one) for one in rows])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no segment left"),
        ([row(0, 61)], "from frame 0 to 61 lies outside of the episode's 60 frames"),
        ([row(-1, 5)], "outside"),
        ([row(5, 5)], "is empty"),
        ([row(0, 20), row(19, 30)], "from frame 19 to 30 begins before the one before it ends .frame 20"),
        ([row(0, 20, arm="rihgt")], "Did you mean 'right'"),
        ([row(0, 20, review_state="failed")], "choose 'unreviewed' or 'accepted'"),
        ([row(0, 20, review_state="accepted", sub_task=" ")], "accepted without sub_task"),
        ([{**row(0, 20), "start": "0"}], "start '0': give a frame number"),
        ([{**row(0, 20), "start": True}], "start True"),
        ([{**row(0, 20), "verb": None}], "verb None: give a text"),
        ([{"start": 0, "end": 3}], "atomic_action None"),
    ],
)
def test_what_no_segment_can_be_is_refused(given: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settled(given, KNOWN)


def test_a_revision_tells_any_difference() -> None:
    assert len({revision(rows) for rows in ([KNOWN[0]], KNOWN, [{**KNOWN[0], "reviewed_at": NOW}])}) == 3
