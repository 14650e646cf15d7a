"""Promotion by trial records: they are kept with the evidence, compared pair by pair, and checked before a move."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json

import pytest

from components.adapters import tracking
from components.ledger import Ledger
from components.promote import moves, verdicts
from components.promote.evidence import gather
from components.promote.gate import Policy, verify
from model.errors import UserError
from tests.components.gate_evidence import evaluation, lines, trial, trials
from tests.registry_house import bundles, home, promote, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"


def registered(folder, bundle, solved):
    """A version whose trials succeeded on the seeds `solved` of 100; returns the inputs of `promote`."""
    records = [trial(seed, seed in solved, bundle=bundle.digest) for seed in range(100)]
    folder.mkdir(parents=True, exist_ok=True)
    return register(folder, bundle, evaluation(records), lines(records))[0]


def champion():
    found = tracking.version_of_alias(MODEL, "champion")
    return None if found is None else found.version


@pytest.fixture
def first(home, bundles, tmp_path):
    assert promote(tmp_path / "a", registered(tmp_path / "a", bundles[0], range(78)))["promoted"]
    return tmp_path / "a"


def test_the_verdict_is_written_with_its_inputs_and_can_be_checked_from_the_files(first):
    verdict = json.loads((first / "promotion" / "verdict.json").read_text())
    assert verdict["promote"] and verdict["inputs"]["trials"] and verdict["inputs"]["champion_trials"] is None
    verify(verdict, gather(tracking.get_version(MODEL, "1"), "champion"))


def test_the_next_version_is_compared_pair_by_pair(first, bundles, tmp_path):
    summary = promote(tmp_path / "b", registered(tmp_path / "b", bundles[1], range(9, 89)))
    assert not summary["promoted"] and "+2 points against the champion on the same 100 seeds" in summary["verdict"]
    assert "inside the noise" in summary["verdict"] and champion() == "1"


def test_a_version_that_wins_pair_by_pair_moves_the_alias(first, bundles, tmp_path):
    assert promote(tmp_path / "b", registered(tmp_path / "b", bundles[1], range(90)))["promoted"]
    assert champion() == "2"


def test_a_gate_of_ones_own_is_taken_and_asked_again_by_hand(home, bundles, tmp_path):
    policy = tmp_path / "gate.yaml"
    policy.write_text("min_trials: 101\n")
    refused = promote(tmp_path, registered(tmp_path, bundles[0], range(90)), policy=str(policy))
    assert refused["verdict"] == "not promoted: 100 trials, at least 101 are asked for"
    version = tracking.get_version(MODEL, "1")
    assert verdicts.standing_verdict(version, "champion").policy == Policy(min_trials=101)


def test_thresholds_of_an_older_verdict_are_a_policy(home, bundles, tmp_path):
    registered(tmp_path, bundles[0], range(90))
    version = tracking.get_version(MODEL, "1")
    tracking.tag_version(
        version, {verdicts.VERDICT_TAG: json.dumps({"promote": True, "thresholds": {"min_trials": 60}})}
    )
    found = verdicts.standing_verdict(tracking.get_version(MODEL, "1"), "champion")
    assert found.policy == Policy(min_trials=60) and found.inputs


def test_trials_that_the_evaluation_did_not_count_are_refused(home, bundles, tmp_path):
    inputs = registered(tmp_path, bundles[0], range(90))
    (tmp_path / "evaluation" / "trials.jsonl").write_bytes(lines(trials(91, bundle=bundles[0].digest)))
    with pytest.raises(UserError, match="is not the file that the evaluation beside it counted"):
        promote(tmp_path, inputs)


def test_stored_trials_that_were_edited_do_not_move_the_alias(first, home):
    version = tracking.get_version(MODEL, "1")
    (stored,) = (home / "trials").iterdir()
    stored.write_bytes(stored.read_bytes().replace(b"failure", b"success"))
    with pytest.raises(UserError, match="were changed after they were stored"):
        verdicts.judge(version, "champion", Policy())


def test_a_verdict_against_a_champion_of_before_moves_nothing(first, bundles, tmp_path):
    promote(tmp_path / "b", registered(tmp_path / "b", bundles[1], range(9, 89)))
    version = tracking.get_version(MODEL, "2")
    passed = verdicts.judge(version, "champion", Policy(max_drop=1.0))
    registered(tmp_path / "c", bundles[2], range(95))
    third = tracking.get_version(MODEL, "3")
    moves.promote(third, "champion", verdicts.judge(third, "champion", Policy()))
    entries = len(Ledger().entries())
    with pytest.raises(UserError, match="given on champion evaluation .* edited or replaced; judge again"):
        moves.promote(version, "champion", passed)
    assert champion() == "3" and len(Ledger().entries()) == entries
