"""The record of what a policy's training saw: by content, through each stage, and honest about what is unknown."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from model.data.scenes import SCENES
from model.data.seen import FILE, NAME_LENGTH, Seen, episode_digests, merge, read_seen
from model.errors import UserError


def packed(folder, contents, seeds=None):
    """A packed set whose training episodes hold the number that is given for each."""
    folder.mkdir(exist_ok=True)
    if seeds is not None:
        (folder / SCENES).write_text(json.dumps({"schema_version": 1, "seeds": seeds}))
    arrays = [np.full((3, 2), content, np.float32) for content in contents]
    return SimpleNamespace(
        folder=folder,
        episodes=lambda split: tuple(range(len(arrays))) if split == "train" else (),
        episode=lambda number: {"state": arrays[number], "action": arrays[number] + 1},
    )


def test_a_set_that_two_stages_saw_stands_there_once(tmp_path):
    own = packed(tmp_path / "own", [1, 2], [1000, 1001])
    seen = Seen().and_then("pretrain", own, "aloha_sim").and_then("finetune", own, "aloha_sim")
    (one,) = seen.sets
    assert one.name == "pretrain and finetune (aloha_sim)" and one.seeds == ((1000, 1001),)
    assert sorted(digest[:NAME_LENGTH] for digest in episode_digests(own, "train").values()) == list(one.episodes)


def test_other_episodes_are_another_set(tmp_path):
    seen = Seen().and_then("pretrain", packed(tmp_path / "a", [1, 2]), "aloha_sim")
    seen = seen.and_then("finetune", packed(tmp_path / "b", [1]), "aloha_sim")
    assert [len(one.episodes) for one in seen.sets] == [2, 1]


def test_seeds_of_all_sets_come_together_and_those_of_real_robots_are_none(tmp_path):
    seen = Seen().and_then("pretrain", packed(tmp_path / "a", [1, 2], [5, 6]), "aloha_sim")
    seen = seen.and_then("pretrain", packed(tmp_path / "b", [3]), "gr1")
    assert seen.seeds == ((5, 6),)
    assert Seen(sets=seen.sets[1:]).seeds is None


def test_what_led_to_an_initial_checkpoint_keeps_its_name(tmp_path):
    own = packed(tmp_path / "own", [1])
    seen = Seen(unknown=("before",)).and_then("pretrain", own, "aloha_sim").as_initial().as_initial()
    seen = seen.and_then("pretrain", own, "aloha_sim")
    assert seen.sets[0].stages == ("initial pretrain", "pretrain") and seen.unknown == ("before",)


def test_it_is_written_and_read_back(tmp_path):
    own = packed(tmp_path / "own", [1, 2], [7, 9])
    seen = Seen(unknown=("x",)).and_then("pretrain", own, "aloha_sim").and_then("finetune", own, "aloha_sim")
    seen.write(tmp_path)
    assert read_seen(tmp_path) == seen and read_seen(tmp_path / "own") is None


@pytest.mark.parametrize(
    ("content", "said"), [('{"schema_version": 9}', "schema_version is 9"), ("[]", "is not a record of training data")]
)
def test_a_record_that_cannot_be_read_is_named(tmp_path, content, said):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=said):
        read_seen(tmp_path)


def test_ranges_are_merged_where_they_touch():
    assert merge([(6, 6), (0, 3), (2, 4), (9, 9)]) == ((0, 4), (6, 6), (9, 9)) and merge([]) == ()
