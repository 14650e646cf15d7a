"""The evaluate step says what of its evidence training saw, and the gate refuses it. Trials are given, not run."""

import hashlib
import json

import pytest

from components.evaluate import step as evaluate
from components.promote.gate import Policy, decide
from model.bundle import create_bundle
from model.data import seen
from model.data.packed import PackedDataset
from model.data.packing import PackingSettings, pack
from model.data.scenes import SCENES
from model.data.seen import Seen, SeenSet
from model.evaluation.summary import closed_loop_figures
from model.progress import Silent
from model.robots import load_robot
from tests.components.gate_evidence import trial
from tests.model.data.demonstrations import MemoryDataset


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle and a packed set of four episodes, one of them held out."""
    folder = tmp_path_factory.mktemp("made")
    create_bundle(folder / "policy" / "bundle", preset="debug")
    (folder / "packed").mkdir()
    pack(
        MemoryDataset(lengths=(12, 12, 12, 12)), load_robot("aloha_sim"), folder / "packed",
        PackingSettings(image_size=56, holdout_fraction=0.25),
        quarantined=frozenset(), segments={}, progress=Silent(), workers=1,
    )  # fmt: skip
    return {"policy": folder / "policy", "packed": folder / "packed"}


def evaluated(made, output, monkeypatch, scenes):
    """evaluation.json of 60 trials on the seeds from 0, where the episodes show `scenes`."""
    (made["packed"] / SCENES).write_text(json.dumps({"schema_version": 1, "seeds": scenes}))

    def closed_loop(path, bundle, *rest):
        records = [trial(seed, True, bundle=bundle.digest) for seed in range(60)]
        records += [trial(seed, False, bundle=bundle.digest, condition="mean_replay") for seed in range(60)]
        return closed_loop_figures(records), records

    monkeypatch.setattr(evaluate, "why_no_closed_loop", lambda *rest: None)
    monkeypatch.setattr(evaluate, "closed_loop", closed_loop)
    monkeypatch.setattr(evaluate, "save_views", lambda *rest: None)
    evaluate.run(made, output, evaluate.Parameters(trials=60, open_loop_looks=0), Silent())
    return json.loads((output / "evaluation.json").read_text())


def test_scenes_apart_from_training_pass_the_gate(made, tmp_path, monkeypatch):
    found = evaluated(made, tmp_path, monkeypatch, [1000, 1001, 1002, 1003])
    assert found["leakage"]["evaluation_seeds"] == [[0, 59]] and found["leakage"]["training_episodes"] == 3
    assert decide(found, None, Policy(require_leakage_record=True)).promote


def test_a_policy_without_a_record_of_its_training_passes_with_a_warning(made, tmp_path, monkeypatch):
    (warning,) = decide(evaluated(made, tmp_path, monkeypatch, [1000, 1001, 1002, 1003]), None, Policy()).warnings
    assert warning.startswith("the policy has no record of its training data")


def test_a_scene_that_another_set_of_the_training_had_is_refused_by_the_gate(made, tmp_path, monkeypatch):
    own, before = PackedDataset.open(made["packed"]), SeenSet(
        stages=("initial pretrain",), robot="aloha_sim", episodes=("ab" * 8,), seeds=((50, 90),)
    )  # fmt: skip
    record = Seen(sets=(before,)).and_then("pretrain", own, "aloha_sim")
    monkeypatch.setattr(seen, "read_seen", lambda folder: record)
    found = evaluated(made, tmp_path, monkeypatch, [1000, 1001, 1002, 1003])
    assert decide(found, None, Policy()).reasons == ("10 evaluated scenes were trained on: seeds 50 to 59",)


def test_a_scene_of_training_that_was_evaluated_is_refused_by_the_gate(made, tmp_path, monkeypatch):
    found = evaluated(made, tmp_path, monkeypatch, [7, 7, 7, 7])
    assert found["leakage"]["shared_seeds"] == [[7, 7]]
    (reason,) = decide(found, None, Policy()).reasons
    assert reason == "1 evaluated scenes were trained on: seeds 7"


def test_the_evaluation_names_its_trial_records(made, tmp_path, monkeypatch):
    found = evaluated(made, tmp_path, monkeypatch, [1000, 1001, 1002, 1003])
    assert found["digests"]["trials"] == hashlib.sha256((tmp_path / "trials.jsonl").read_bytes()).hexdigest()
