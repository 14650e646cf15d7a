"""Agreement of two reviewers against statsmodels and by hand, and the consensus of both."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from components.annotate.agreement import compare
from components.annotate.consensus import consensus, is_disputed
from components.annotate.episodes import by_episode, iou, same_segments
from components.annotate.kappa import cohen_kappa
from model.data.annotations import ACCEPTED, read_annotations, write_annotations
from model.errors import UserError
from pipelines.cli import main
from tests.components.annotate.recordings import write_picks
from tests.components.annotate.reviews import FPS, accepted, row

LENGTHS = dict.fromkeys(range(50), 100)
LABELS = ("reach", "lift", "carry")
PICK = ((0, 20, "reach"), (20, 30, "close gripper"), (30, 60, "lift"))


def cut_at(edges: list[int], labels: list[str], episode: int = 0, by: str = "anna") -> list[dict]:
    """Accepted segments between neighbouring edges; the label "-" leaves a gap."""
    spans = zip(edges, edges[1:], labels, strict=False)
    return accepted(episode, *(span for span in spans if span[2] != "-"), by=by)


segmentations = st.builds(
    cut_at,
    st.lists(st.integers(0, 100), min_size=2, max_size=8, unique=True).map(sorted),
    st.lists(st.sampled_from([*LABELS, "-"]), min_size=7, max_size=7),
).filter(bool)


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1))
def test_kappa_is_that_of_statsmodels(pairs: list[tuple[str, str]]) -> None:
    found = cohen_kappa([Counter(pairs)])
    if len({label for pair in pairs for label in pair}) == 1:
        assert found.value is None
    else:
        table = [[pairs.count((one, other)) for other in LABELS] for one in LABELS]
        assert found.value == pytest.approx(cohens_kappa(table, return_results=False))
    assert found.items == len(pairs) and found.low is None  # one episode shows no spread


def test_the_interval_of_kappa_covers_in_95_of_100() -> None:
    """Episodes of ten equal labels, of which a fifth differ: 300 simulated reviews of 40 episodes."""
    draw, inside, true = random.Random(0), 0, 0.6  # 0.8 observed, 0.5 by chance
    for _ in range(300):
        episodes = []
        for _ in range(40):
            label = draw.choice("ab")
            other = label if draw.random() < 0.8 else "ab".replace(label, "")
            episodes.append(Counter({(label, other): 10}))
        found = cohen_kappa(episodes)
        inside += found.low <= true <= found.high
    assert 0.91 <= inside / 300 <= 0.98


def test_no_label_has_no_kappa() -> None:
    assert cohen_kappa([Counter(), Counter()]) is None


@given(segmentations, segmentations)
def test_no_segment_is_the_same_as_two(first: list[dict], second: list[dict]) -> None:
    pairs = same_segments(first, second)
    for side in (0, 1):
        starts = [pair[side]["start"] for pair in pairs]
        assert starts == sorted(set(starts))


@given(segmentations)
def test_one_agrees_with_oneself(rows: list[dict]) -> None:
    found = compare(rows, rows, LENGTHS, FPS)
    assert found["boundaries"]["f1"] == 1 and found["boundaries"]["p95"] == 0 and found["iou"] == 1
    assert found["segments_in_both"] == len(rows) and set(found["texts"].values()) == {1.0}
    kappa = found["kappa"]["atomic_action"]["frames"]
    assert kappa["observed"] == 1 and kappa["value"] in (None, pytest.approx(1))


def test_the_figures_by_hand() -> None:
    """Ben cuts the lift 0.2 s later, calls it a carry, and has no head of 10 frames."""
    first = accepted(3, *PICK)
    second = accepted(3, (10, 20, "reach"), (20, 34, "close gripper"), (34, 60, "carry"), by="ben")
    found = compare(first, second, LENGTHS, FPS)
    assert found["reviewers"] == [["anna"], ["ben"]] and found["episodes"] == 1
    assert found["segments_in_both"] == 2  # the reach overlaps by one half, not more
    assert found["boundaries"]["f1"] == pytest.approx(2 * 3 / 8)  # 20, 30 with 34, and 60; 0 and 10 have none
    # from 0, 20, 30, 60 to 10, 20, 34, 60 and back, in frames: 10 0 4 0, 10 0 4 0
    assert found["boundaries"]["mean"] == pytest.approx(28 / 8 / FPS)
    assert found["boundaries"]["median"] == pytest.approx(2 / FPS)
    by_frame = found["kappa"]["atomic_action"]["frames"]
    assert by_frame["items"] == 100 and by_frame["observed"] == pytest.approx((100 - 10 - 4 - 26) / 100)
    assert found["kappa"]["atomic_action"]["segments"]["observed"] == pytest.approx(1 / 2)
    assert found["texts"]["sub_task"] == pytest.approx(1 / 2)


def test_a_cut_that_one_alone_made_counts_whoever_made_it() -> None:
    one, two = accepted(0, (0, 10, "lift")), accepted(0, (0, 10, "lift"), (40, 50, "wait"), by="ben")
    for first, second in ((one, two), (two, one)):
        # 0 0 from the one, 0 0 30 40 from the other, in frames
        assert compare(first, second, LENGTHS, FPS)["boundaries"]["mean"] == pytest.approx(70 / 6 / FPS)


def test_an_episode_counts_when_both_have_accepted_all_of_it() -> None:
    first = accepted(0, *PICK) + accepted(1, *PICK)
    second = accepted(0, *PICK, by="ben") + [*accepted(1, *PICK[:2], by="ben"), row(1, *PICK[2])]
    found = compare(first, second, LENGTHS, FPS)
    assert (found["episodes"], found["unfinished"]) == (1, 1)
    with pytest.raises(UserError, match="no episode is reviewed in both files: 1 are in both"):
        compare(accepted(1, *PICK), second[3:], LENGTHS, FPS)


def test_there_is_an_interval_from_five_episodes_on() -> None:
    episode = {("reach", "reach"): 9, ("lift", "reach"): 1, ("lift", "lift"): 5}
    for episodes, has in ((4, False), (5, True)):
        found = cohen_kappa([episode] * episodes)
        assert found is not None and (found.low is not None) == has, episodes


def test_segments_that_overlap_or_leave_the_episode_are_named() -> None:
    with pytest.raises(UserError, match="episode 2 has a segment from frame 0 to 20 and one from 19"):
        by_episode(accepted(2, (0, 20, "reach"), (19, 30, "lift")))
    with pytest.raises(UserError, match="FIRST: episode 0 has a segment to frame 60, the dataset has 59"):
        compare(accepted(0, *PICK), accepted(0, *PICK), {0: 59}, FPS)


def test_what_both_say_is_accepted_half_way_and_the_rest_is_disputed() -> None:
    first = accepted(0, *PICK, sub_task="as anna says")
    second = accepted(0, (0, 22, "reach"), (22, 33, "close gripper"), (33, 60, "carry"), (70, 80, "wait"), by="ben")
    rows = consensus(first, second, FPS)
    assert [(one["start"], one["end"], one["atomic_action"], one["review_state"]) for one in rows] == [
        (0, 21, "reach", "accepted"),
        (21, 31, "close gripper", "accepted"),
        (31, 60, "lift", "unreviewed"),
        (70, 80, "wait", "unreviewed"),
    ]
    assert rows[0]["reviewer"] == "anna, ben" and rows[0]["sub_task"] == "as anna says"
    assert rows[2]["reason"] == "disputed: anna lift 30-60; ben close gripper 22-33, carry 33-60"
    assert rows[3]["reason"] == "disputed: anna nothing; ben wait 70-80"
    assert [is_disputed(one) for one in rows] == [False, False, True, True] and rows[2]["confidence"] == 0


def test_ends_further_apart_than_the_tolerance_are_disputed() -> None:
    second = accepted(0, (0, 16, "reach"), (16, 30, "close gripper"), (30, 60, "lift"), by="ben")
    agreed = [one["end"] for one in consensus(accepted(0, *PICK), second, FPS) if not is_disputed(one)]
    assert agreed == [18, 30, 60]
    agreed = [one["end"] for one in consensus(accepted(0, *PICK), second, FPS, tolerance=0.1) if not is_disputed(one)]
    assert agreed == [60]


def test_episodes_of_one_reviewer_are_taken_from_that_one() -> None:
    machine = [row(episode, *part) for episode in (0, 1, 2) for part in PICK]
    anna = [*accepted(0, *PICK), *machine[3:]]
    ben = [*machine[:3], *accepted(1, (0, 60, "carry"), by="ben"), *machine[6:]]
    rows = by_episode(consensus(anna, ben, FPS))
    assert {one["reviewer"] for one in rows[0]} == {"anna"}
    assert [(one["reviewer"], one["end"]) for one in rows[1]] == [("ben", 60)]
    assert rows[2] == machine[6:]


@given(segmentations, segmentations, st.sampled_from([0.01, 0.2, 1.0]))
def test_a_consensus_has_no_overlaps_and_accepts_only_what_both_say(
    first: list[dict], second: list[dict], tolerance: float
) -> None:
    second = [one | {"reviewer": "ben"} for one in second]
    rows = consensus(first, second, FPS, tolerance=tolerance)
    by_episode(rows)  # refuses overlaps
    for one in rows:
        assert one["start"] < one["end"]
        if one["review_state"] == ACCEPTED:
            for side in (first, second):
                assert any(iou(one, other) > 0.3 and one["atomic_action"] == other["atomic_action"] for other in side)
    untouched = consensus(first, [one | {"reviewer": "ben"} for one in first], FPS, tolerance=tolerance)
    assert [(one["start"], one["end"]) for one in untouched] == [(one["start"], one["end"]) for one in first]
    assert not any(map(is_disputed, untouched))


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_picks(tmp_path / "dataset", 2, cameras=("cam_high",))
    for name, by in (("anna", "anna"), ("ben", "ben")):
        parts = PICK if name == "anna" else ((0, 22, "reach"), (22, 30, "close gripper"), (30, 60, "carry"))
        write_annotations(tmp_path, accepted(0, *parts, by=by) + accepted(1, *PICK, by=by), f"{name}.parquet")
    files = [str(dataset), str(tmp_path / "anna.parquet"), str(tmp_path / "ben.parquet")]
    made = tmp_path / "both.parquet"
    assert main(["annotate", "agreement", *files, "--consensus", str(made)]) == 0
    shown = capsys.readouterr().out
    assert "anna and ben: 2 episodes that both reviewed whole" in shown
    assert "kappa         atomic_action by frames: 0." in shown and "kappa         arm by segments: undefined" in shown
    assert "1 disputed segments in 1 episodes" in shown
    assert len(read_annotations(made)) == 6
    assert main(["annotate", "agreement", *files, "--consensus", str(made)]) == 2
    assert "which exists: give a new name" in capsys.readouterr().err
    assert main(["annotate", "agreement", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
