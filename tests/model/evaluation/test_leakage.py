"""What was evaluated and trained on at once is found, by seed and by content."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from model.data.scenes import SCENES, carry_scenes, read_scenes
from model.data.seen import Seen
from model.errors import UserError
from model.evaluation.leakage import NO_RECORD, digest_of_seeds, leakage_record, ranges_of, shared


def packed(folder, train, holdout, seeds=None):
    """A packed set of episodes whose content is the number that is given for each."""
    contents = dict(enumerate([*train, *holdout]))
    if seeds is not None:
        (folder / SCENES).write_text(json.dumps({"schema_version": 1, "seeds": seeds}))
    splits = {"train": tuple(range(len(train))), "holdout": tuple(range(len(train), len(contents)))}
    numbers = {number: np.full((3, 2), content, np.float32) for number, content in contents.items()}
    return SimpleNamespace(
        folder=folder,
        episodes=splits.__getitem__,
        episode=lambda number: {"state": numbers[number], "action": numbers[number] + 1},
    )


def test_ranges_hold_every_seed_once():
    assert ranges_of([7, 1, 0, 2, 2]) == [[0, 2], [7, 7]] and ranges_of([]) == []


def test_overlapping_ranges_are_found():
    assert shared([[0, 99], [200, 250]], [[90, 210]]) == [[90, 99], [200, 210]]
    assert shared([[0, 99]], [[100, 200]]) == []


def test_a_digest_of_seeds_knows_neither_order_nor_number():
    assert digest_of_seeds([2, 0, 1, 1]) == digest_of_seeds(range(3)) != digest_of_seeds(range(4))


def test_disjoint_data_shares_nothing(tmp_path):
    record, digests = leakage_record(packed(tmp_path, [1, 2, 3], [4], [1000, 1001, 1002, 1003]), range(50))
    assert record == {
        "evaluation_seeds": [[0, 49]],
        "training_seeds": [[1000, 1002]],  # the held-out episode's scene was not trained on
        "shared_seeds": [],
        "training_episodes": 3,
        "holdout_episodes": 1,
        "shared_episodes": [],
        "training_sets": None,
        "unknown": [NO_RECORD],
    }
    assert digests["evaluation_seeds"] == digest_of_seeds(range(50))


def test_a_demonstrated_scene_that_is_evaluated_is_found(tmp_path):
    record, _ = leakage_record(packed(tmp_path, [1, 2], [3], [1000, 7, 8]), range(50))
    assert record["shared_seeds"] == [[7, 7]]


def test_a_held_out_copy_of_a_training_episode_is_found_by_its_content(tmp_path):
    record, _ = leakage_record(packed(tmp_path, [1, 2], [9, 2]), ())
    assert record["shared_episodes"] == [[3, 1]]


def test_scenes_that_the_dataset_does_not_name_are_unknown(tmp_path):
    record, _ = leakage_record(packed(tmp_path, [1], [2]), range(5))
    assert record["training_seeds"] is None


def test_another_training_set_has_another_digest(tmp_path):
    digests = [leakage_record(packed(tmp_path, train, [9]), ())[1] for train in ([1, 2], [2, 1], [1, 3])]
    assert digests[0]["training_episodes"] == digests[1]["training_episodes"] != digests[2]["training_episodes"]


@pytest.fixture
def collected(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/collection.json").write_text('{"episodes": [{"seed": 5}, {"seed": 6}]}')
    return tmp_path


def test_scenes_are_carried_into_the_packed_set(collected):
    carry_scenes(collected, collected, 2)
    assert read_scenes(collected) == {0: 5, 1: 6}


def test_a_dataset_that_was_collected_elsewhere_has_no_scenes(tmp_path):
    carry_scenes(tmp_path, tmp_path, 2)
    assert read_scenes(tmp_path) is None


def test_scenes_of_another_number_of_episodes_are_refused(collected):
    with pytest.raises(UserError, match="lists 2 scenes, the dataset has 3 episodes"):
        carry_scenes(collected, collected, 3)


def seen_of(folder, contents, seeds=None, stage="pretrain", robot="gr1"):
    folder.mkdir()
    return Seen().and_then(stage, packed(folder, contents, [], seeds), robot)


def test_a_held_out_episode_that_another_set_of_a_mixture_had_is_found(tmp_path):
    seen = seen_of(tmp_path / "other", [8, 9]).and_then("finetune", packed(tmp_path, [1, 2], [9]), "aloha_sim")
    record, digests = leakage_record(packed(tmp_path, [1, 2], [9]), (), seen)
    assert record["shared_episodes"] == [[2, "pretrain (gr1)"]] and record["training_episodes"] == 4
    assert record["training_sets"][0] == {
        "stages": ["pretrain"], "robot": "gr1", "episodes": 2, "scenes_known": False
    }  # fmt: skip
    assert len(digests["training_data"]) == 64


def test_an_evaluated_scene_that_the_initial_checkpoint_saw_is_found(tmp_path):
    before = seen_of(tmp_path / "before", [5, 6], [20, 90]).as_initial()
    seen = before.and_then("pretrain", packed(tmp_path, [1], [2], [1000, 1001]), "aloha_sim")
    record, _ = leakage_record(packed(tmp_path, [1], [2], [1000, 1001]), range(50), seen)
    assert record["shared_seeds"] == [[20, 20]]
    assert record["training_seeds"] == [[20, 20], [90, 90], [1000, 1000]]
    assert record["training_sets"][0]["stages"] == ["initial pretrain"]


def test_what_the_record_does_not_know_is_said(tmp_path):
    own = packed(tmp_path, [1], [2])
    seen = Seen(unknown=("it does not say",)).and_then("pretrain", own, "gr1")
    assert leakage_record(own, (), seen)[0]["unknown"] == ["it does not say"]
