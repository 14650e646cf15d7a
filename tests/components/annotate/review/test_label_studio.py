"""Label Studio: what goes out comes back, what people did there is told from what they left."""

import copy
import json
import random
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.annotate.review.edits import ARMS, TEXTS, revision, settle
from components.annotate.review.label_studio import make_config, make_tasks
from components.annotate.review.label_studio_import import Labelled, read_tasks
from model.data.annotations import complete
from model.errors import UserError

LENGTH = 400
NOW = "2026-11-23T01:02:03+00:00"

words = (
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")) | st.just(" "), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)
confidences = st.floats(0, 1, width=32)


@st.composite
def episode_rows(draw: Any, episode: int) -> list[dict[str, Any]]:
    """Segments with or without gaps, in every state, with words of any script."""
    cuts = sorted(draw(st.sets(st.integers(0, LENGTH), min_size=2, max_size=9)))
    spans = list(zip(cuts, cuts[1:], strict=False))
    kept = draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans)))
    spans = [span for span, keep in zip(spans, kept, strict=True) if keep] or spans[:1]
    whole = draw(st.booleans())
    task = draw(words)
    rows = []
    for start, end in spans:
        ends = draw(confidences), draw(confidences)
        accepted = whole or draw(st.booleans())
        rows.append(
            complete(
                {
                    "episode": episode, "start": start, "end": end, "atomic_action": draw(words),
                    "arm": draw(st.sampled_from(ARMS)), "task": task, "sub_task": draw(words),
                    "verb": draw(words | st.just("")), "objects": draw(words | st.just("")), "source": draw(words),
                    "confidence": min(ends), "start_confidence": ends[0], "end_confidence": ends[1],
                    "review_state": "accepted" if accepted else draw(st.sampled_from(("unreviewed", "failed"))),
                    "reviewer": "kim" if accepted else "", "reviewed_at": NOW if accepted else "",
                    "reason": "" if accepted else draw(words | st.just("")),
                }
            )
        )  # fmt: skip
    return rows


@st.composite
def several_episodes(draw: Any) -> dict[int, list[dict[str, Any]]]:
    numbers = draw(st.sets(st.integers(0, 2000), min_size=1, max_size=3))
    return {number: draw(episode_rows(number)) for number in sorted(numbers)}


def exported(episodes: dict[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Tasks as a file brings them."""
    tasks = make_tasks(
        episodes, fps=20.0, lengths=dict.fromkeys(episodes, LENGTH), videos={each: f"/{each}.mp4" for each in episodes}
    )
    return json.loads(json.dumps(tasks))


def submitted(task: dict[str, Any], seed: int = 0, by: Any = 7) -> dict[str, Any]:
    """The task as Label Studio exports it after somebody has submitted what was predicted."""
    result = copy.deepcopy((task.get("predictions") or task["annotations"])[0]["result"])
    random.Random(seed).shuffle(result)
    for entry in result:
        entry["origin"] = "prediction"
    annotation = {
        "id": 12, "completed_by": by, "result": result, "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-11-23T02:00:00.123456Z", "updated_at": "2026-11-23T03:04:05.678901Z", "lead_time": 3.2,
    }  # fmt: skip
    return {"id": 3, "data": task["data"], "annotations": [annotation], "predictions": [], "meta": {}, "total": 1}


def settled(one: Labelled) -> list[dict[str, Any]]:
    assert one.segments is not None
    return settle(one.episode, one.segments, one.rows, length=one.length, reviewer=one.reviewer, now=one.now or NOW)


@settings(max_examples=25, deadline=None)
@given(several_episodes())
def test_what_nobody_touched_comes_back_as_it_was(episodes: dict[int, list[dict[str, Any]]]) -> None:
    found = read_tasks(exported(episodes))
    assert {one.episode: one.rows for one in found} == episodes
    for one in found:
        rows = episodes[one.episode]
        assert one.revision == revision(rows) and one.length == LENGTH
        if all(row["review_state"] == "accepted" for row in rows):
            assert settled(one) == rows
        else:
            assert one.segments is None, "a prediction is nobody's work"


@settings(max_examples=25, deadline=None)
@given(several_episodes(), st.integers(0, 99))
def test_a_submission_accepts_every_segment_with_the_same_words(
    episodes: dict[int, list[dict[str, Any]]], seed: int
) -> None:
    tasks = [submitted(task, seed) for task in exported(episodes)]
    for one in read_tasks(tasks):
        rows = episodes[one.episode]
        for before, after in zip(rows, settled(one), strict=True):
            assert after["review_state"] == "accepted"
            same = ("episode", "start", "end", *TEXTS, "source", "start_confidence", "end_confidence")
            assert {name: after[name] for name in same} == {name: before[name] for name in same}
            if before["review_state"] == "accepted":
                assert after == before
            else:
                assert (after["reviewer"], after["reviewed_at"]) == ("Label Studio user 7", "2026-11-23T03:04:05+00:00")


def rows_of_two() -> list[dict[str, Any]]:
    common = {"episode": 4, "task": "lift the cube", "source": "template", "confidence": 0.5}
    return [
        complete({**common, "start": 0, "end": 10, "atomic_action": "reach", "arm": "left", "sub_task": "reach it"}),
        complete({**common, "start": 10, "end": 30, "atomic_action": "lift", "arm": "", "sub_task": "lift it"}),
    ]


def test_frames_are_counted_from_one_and_the_last_is_held() -> None:
    (task,) = exported({4: rows_of_two()})
    regions = [each for each in task["predictions"][0]["result"] if each["type"] == "timelinelabels"]
    assert [each["value"] for each in regions] == [
        {"ranges": [{"start": 1, "end": 10}], "timelinelabels": ["reach"]},
        {"ranges": [{"start": 11, "end": 30}], "timelinelabels": ["lift"]},
    ]
    assert task["predictions"][0]["model_version"] == "template" and task["predictions"][0]["score"] == 0.5


def test_what_was_changed_there_is_its_annotators() -> None:
    (task,) = exported({4: rows_of_two()})
    done = submitted(task, by={"id": 1, "email": "lee@example.org"})
    result = done["annotations"][0]["result"]
    for entry in result:
        if entry["id"] == "segment-1" and entry["type"] == "timelinelabels":
            entry["value"] = {"ranges": [{"start": 16, "end": 28}], "timelinelabels": ["carry"]}
    # a region that was drawn there, without words beside its label
    value = {"ranges": [{"start": 29, "end": 29}], "timelinelabels": ["wait"]}
    more = [
        {"id": "x9", "from_name": "atomic_action", "to_name": "video", "type": "timelinelabels", "value": value},
        {
            "id": "x9",
            "from_name": "sub_task",
            "to_name": "video",
            "type": "textarea",
            "value": {"text": ["wait", "now"]},
        },
    ]
    result += more
    done["annotations"][0]["updated_at"] = "2026-11-23T05:04:05+02:00"
    (one,) = read_tasks([done])
    rows = settled(one)
    assert {row["reviewed_at"] for row in rows} == {"2026-11-23T03:04:05+00:00"}
    assert [(row["start"], row["end"], row["atomic_action"], row["sub_task"], row["source"]) for row in rows] == [
        (0, 10, "reach", "reach it", "template"),
        (15, 28, "carry", "lift it", "lee@example.org"),
        (28, 29, "wait", "wait now", "lee@example.org"),
    ]
    assert rows[1]["start_confidence"] == 1.0


def test_of_several_annotators_one_is_chosen() -> None:
    (task,) = exported({4: rows_of_two()})
    done = submitted(task, by={"id": 1, "email": "lee@example.org"})
    other = submitted(task, by={"id": 2, "email": "kim@example.org"})
    for entry in other["annotations"][0]["result"]:
        if entry["type"] == "timelinelabels":
            entry["value"]["timelinelabels"] = ["push"]
    done["annotations"] += other["annotations"]
    with pytest.raises(UserError, match=r"episode 4 was labelled by kim@example.org, lee@example.org: .*--annotator"):
        read_tasks([done])
    for who in ("kim@example.org", "2"):
        (one,) = read_tasks([done], annotator=who)
        assert one.reviewer == "kim@example.org"
        assert [row["atomic_action"] for row in settled(one)] == ["push", "push"]
    (nobody,) = read_tasks([done], annotator="max@example.org")
    assert nobody.segments is None
    done["annotations"][1]["was_cancelled"] = True
    (one,) = read_tasks([done])
    assert one.reviewer == "lee@example.org"


def test_of_several_submissions_of_one_person_the_last_counts() -> None:
    """The last by the clock: their times may be of several zones."""
    (task,) = exported({4: rows_of_two()})
    done = submitted(task)
    (later,) = submitted(task)["annotations"]
    for entry in later["result"]:
        if entry["type"] == "timelinelabels":
            entry["value"]["timelinelabels"] = ["push"]
    done["annotations"][0]["updated_at"] = "2026-11-23T04:30:00+02:00"
    later["updated_at"] = "2026-11-23T03:00:00Z"
    for order in ([0, 1], [1, 0]):
        both = [done["annotations"][0], later]
        (one,) = read_tasks([done | {"annotations": [both[place] for place in order]}])
        assert [row["atomic_action"] for row in settled(one)] == ["push", "push"]
        assert one.now == "2026-11-23T03:00:00+00:00"


def broken(change: Any) -> Any:
    (task,) = exported({4: rows_of_two()})
    done = submitted(task)
    region = next(each for each in done["annotations"][0]["result"] if each["type"] == "timelinelabels")
    change(done, region)
    return [done]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"tasks": []}, "no list of tasks"),
        ([{"data": {"video": "x"}}], "task 0 has no `lingbot`"),
        (broken(lambda task, region: task["data"]["lingbot"].update(schema_version=9)), "schema version 9"),
        (broken(lambda task, region: region["value"].update(ranges=[])), r"episode 4 has the ranges \[\]"),
        (broken(lambda task, region: region["value"].update(timelinelabels=["a", "b"])), r"\['a', 'b'\]: choose one"),
        (broken(lambda task, region: task["annotations"][0].update(updated_at="soon")), "time 'soon'"),
        (broken(lambda task, region: None) * 2, "episode 4 has two tasks"),
        (broken(lambda task, region: region.update(value=["x"])), "task 0 is not as Label Studio exports it"),
        (broken(lambda task, region: region["value"]["ranges"][0].update(start="x")), "task 0 is not as"),
        (broken(lambda task, region: task.update(annotations=["x"])), "task 0 is not as"),
        (broken(lambda task, region: task["data"]["lingbot"]["rows"][0].pop("verb")), "not as .*KeyError: 'verb'"),
    ],
)
def test_what_is_no_export_is_refused(tasks: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_tasks(tasks)


def test_the_interface_has_every_label_and_the_names_that_the_results_use() -> None:
    rows = rows_of_two()
    rows[0]["atomic_action"] = 'twist & "turn"'
    view = ET.fromstring(make_config({4: rows}))
    labels = [label.get("value") for label in view.iterfind(".//TimelineLabels/Label")]
    assert 'twist & "turn"' in labels and "lift" in labels and len(set(labels)) == len(labels)
    named = {each.get("name"): each.get("toName") for each in view if each.get("toName")}
    (task,) = exported({4: rows})
    assert {entry["from_name"] for entry in task["predictions"][0]["result"]} <= named.keys()
    assert set(named.values()) == {"video"}
    arms = {entry["value"]["choices"][0] for entry in task["predictions"][0]["result"] if entry["type"] == "choices"}
    assert len(arms) == 2 and arms <= {choice.get("value") for choice in view.iterfind(".//Choices/Choice")}
    video = view.find("Video")
    assert video is not None and video.get("value") == "$video" and video.get("frameRate") == "$fps"
    assert {"video", "fps", "title"} <= task["data"].keys()
