"""The diversity of annotated actions: what is counted, what is outside of the training set, tables and picture."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.annotate.diversity import TEST, TRAIN, Action, measure, phrase, ranked, write_tables
from components.annotate.diversity_picture import save_picture
from model.data.annotations import write_annotations
from model.data.packed_format import HOLDOUT
from model.data.packing_plan import split_episodes
from model.errors import UserError
from pipelines.cli import main
from tests.components.annotate.recordings import write_picks
from tests.components.annotate.reviews import row


def segments(split: str, counts: dict[str, int], robot: str = "agilex", task: str = "tidy up") -> list[Action]:
    return [Action(phrase=name, robot=robot, task=task, split=split) for name in counts for _ in range(counts[name])]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"source": "qwen3-vl", "verb": "Pick up", "objects": "red cube, cup"}, "pick up red cube, cup"),
        ({"source": "qwen3-vl", "verb": "wait", "objects": ""}, "wait"),
        ({"objects": "cube", "sub_task": "lift the cube with the right arm"}, "lift cube"),
        ({"objects": "cube", "sub_task": "close the right gripper"}, "lift"),
        ({"verb": "", "objects": ""}, "lift"),
    ],
)
def test_an_action_is_its_verb_with_its_objects(given: dict[str, str], words: str) -> None:
    assert phrase(row(0, 0, 10, "lift", **given)) == words


def test_the_share_outside_of_the_most_frequent_by_hand() -> None:
    actions = segments(TRAIN, {"lift cup": 5, "push cup": 3, "fold shirt": 1, "cut pear": 1})
    actions += segments(TEST, {"lift cup": 6, "fold shirt": 2, "zip bag": 1})
    actions += segments(TEST, {"zip bag": 4}, robot="agibot_g1", task="pack")
    actions += segments(TEST, {"push cup": 1}, robot="agibot_g1", task="push")  # seen in training, by the other robot
    found = measure(actions, most_frequent=2)
    assert found.top == {"lift cup", "push cup"}
    rows = {(one.robot, one.task): one for one in found.coverage}
    assert list(rows) == [
        ("", ""),
        ("agibot_g1", ""),
        ("agibot_g1", "pack"),
        ("agibot_g1", "push"),
        ("agilex", ""),
        ("agilex", "tidy up"),
    ]
    everything, agibot = rows["", ""], rows["agibot_g1", "pack"]
    assert (everything.train_segments, everything.train_actions) == (10, 4)
    assert (everything.test_segments, everything.test_actions) == (14, 4)
    assert everything.outside_share == pytest.approx(2 / 4)  # fold shirt and zip bag
    assert everything.outside_segment_share == pytest.approx(7 / 14)
    assert everything.unseen == 1  # zip bag
    assert (agibot.train_segments, agibot.outside_share, agibot.unseen) == (0, 1.0, 1)
    assert rows["agibot_g1", ""].unseen == 1 and rows["agibot_g1", "push"].unseen == 0
    assert measure(actions, most_frequent=3).coverage[0].outside == 2  # of equals the first of the alphabet: cut pear
    with pytest.raises(UserError, match="no annotated segment is in the training set"):
        measure(segments(TEST, {"lift cup": 1}))


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9), min_size=1),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9), min_size=1),
    st.integers(1, 9),
)
def test_nothing_is_outside_of_more_than_there_are(train: dict[str, int], test: dict[str, int], top: int) -> None:
    found = measure(segments(TRAIN, train) + segments(TEST, test), most_frequent=top)
    one = found.coverage[0]
    assert one.unseen <= one.outside <= one.test_actions and one.outside_segments <= one.test_segments
    assert len(found.top) == min(top, len(train))
    assert min(train[name] for name in found.top) >= max(
        [train[name] for name in train if name not in found.top] or [0]
    )
    assert one.outside == one.unseen or top < len(train)


def test_the_tables_hold_every_action_and_every_group(tmp_path: Path) -> None:
    found = measure(segments(TRAIN, {"lift cup": 3, "push cup": 1}) + segments(TEST, {"zip, bag": 2}))
    frequencies, coverage = write_tables(found, tmp_path)
    with frequencies.open() as file:
        rows = list(csv.DictReader(file))
    assert [(one["action"], one["train"], one["train_rank"], one["test"]) for one in rows] == [
        ("lift cup", "3", "1", "0"), ("zip, bag", "0", "", "2"), ("push cup", "1", "2", "0"),
    ]  # fmt: skip
    assert sum(float(one["train_share"]) for one in rows) == pytest.approx(1)
    with coverage.open() as file:
        groups = list(csv.DictReader(file))
    assert [(one["robot"], one["task"], one["outside_share"]) for one in groups] == [
        ("all", "all", "1.000000"), ("agilex", "all", "1.000000"), ("agilex", "tidy up", "1.000000"),
    ]  # fmt: skip


def ink(path: Path, colour: tuple[int, int, int], half: str) -> int:
    """Pixels of a colour in the left or the right half of the upper third, where the clouds are."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    upper = image[: image.shape[0] // 3]
    middle = upper.shape[1] // 2
    part = upper[:, :middle] if half == "left" else upper[:, middle:]
    return int((np.abs(part - colour).max(-1) < 40).sum())


def test_the_picture_shows_what_is_new_in_red_and_has_equal_bytes(tmp_path: Path) -> None:
    known = {f"lift thing {number}": 20 - number for number in range(12)}
    actions = segments(TRAIN, known) + segments(TEST, {"zip bag": 5, "lift thing 0": 5})
    save_picture(tmp_path / "new.png", measure(actions))
    red = (200, 69, 47)
    assert ink(tmp_path / "new.png", red, "right") > 500 > 50 > ink(tmp_path / "new.png", red, "left")
    save_picture(tmp_path / "again.png", measure(actions[::-1]))
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("new.png", "again.png")}
    assert len(digests) == 1


def test_the_command_takes_the_holdout_or_a_test_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_picks(tmp_path / "dataset", 6, cameras=("cam_high",))
    rows = [row(episode, 0, 10, "lift") for episode in range(6)] + [row(episode, 10, 20, "carry") for episode in (0, 1)]
    write_annotations(tmp_path, rows)
    given = ["annotate", "diversity", str(dataset), str(tmp_path), "--holdout-fraction", "0.3"]
    assert main(given) == 0
    held = [episode for episode, side in split_episodes(range(6), 0.3, 0).items() if side == HOLDOUT]
    tested = sum(one["episode"] in held for one in rows)
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[:2] == ["all", "all"] and [int(line[2]), int(line[4])] == [len(rows) - tested, tested]
    write_annotations(tmp_path, [row(0, 0, 10, "fold")], "test.parquet")
    output = tmp_path / "report"
    assert main([*given, "--test", str(dataset), str(tmp_path / "test.parquet"), "--output", str(output)]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[2:] == ["8", "2", "1", "1", "100%", "100%", "1"]
    assert sorted(path.name for path in output.iterdir()) == ["coverage.csv", "diversity.png", "frequencies.csv"]
    assert main([*given, "--output", str(tmp_path / "test.parquet")]) == 2
    assert "which is a file: give a folder" in capsys.readouterr().err
    write_annotations(tmp_path, [row(6, 0, 10, "fold")])
    assert main(given) == 2 and "episode 6 has a segment to frame 10" in capsys.readouterr().err


def test_equal_counts_come_in_the_order_of_the_alphabet() -> None:
    assert ranked(Counter({"b": 2, "c": 3, "a": 2})) == ["c", "a", "b"]
