"""The gate, and the alias that moves on evidence alone."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.adapters import tracking
from components.ledger import OVERRIDE, PROMOTE, ROLLBACK, Ledger
from components.promote import drift, moves, step, verdicts
from components.promote.gate import Policy, decide
from model.errors import UserError
from tests.registry_house import (  # noqa: F401
    bundles,
    evaluation,
    home,
    promote,
    register,
    register_and_promote,
    registry_template,
)

MODEL = "lingbot-vla-aloha_sim"
DIGEST = "d" * 64


def verdict(champion=None, policy=None, **options):
    return decide(evaluation(DIGEST, **options), champion, policy or Policy())


def failed(found):
    return [check.name for check in found.checks if not check.passed]


def test_good_evidence_passes_and_gives_its_numbers():
    found = verdict()
    assert found.promote and not found.warnings
    text = found.sentence()
    assert "100 trials" in text and "SR 80%" in text and "+70 points" in text


def test_no_closed_loop_is_no_evidence():
    values = {**evaluation(DIGEST), "closed_loop": None, "closed_loop_reason": "robot gr1 has no simulator"}
    found = decide(values, None, Policy())
    assert found.sentence() == "not promoted: no closed-loop evidence (robot gr1 has no simulator)"
    assert decide({}, None, Policy()).sentence() == "not promoted: no closed-loop evidence"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"successes": 2, "trials": 2, "mean": 0}, ["trials", "success_rate"]),
        ({"successes": 45}, ["success_rate"]),  # the lower bound of 45 of 100 is 0.36
        ({"successes": 80, "mean": 75}, ["advantage"]),  # 5 points, lower bound -5
        ({"successes": 50, "mean": 60}, ["advantage"]),
    ],
)
def test_weak_evidence_is_refused_with_the_check_that_failed(options, names):
    found = verdict(**options)
    assert not found.promote and failed(found) == names
    assert len(found.reasons) == len(names) and found.sentence().startswith("not promoted: ")


def test_controls_that_succeed_are_warned_about():
    found = verdict(untrained=6, blank=30)
    assert found.promote and len(found.warnings) == 2
    assert "untrained policy has SR 6%" in found.warnings[0] and "blanked images has SR 30%" in found.warnings[1]
    assert not verdict(untrained=5, blank=5).warnings


def test_a_worse_policy_does_not_replace_the_champion():
    champion = evaluation(DIGEST, successes=90)
    assert verdict(champion, successes=85).promote
    found = verdict(champion, successes=84)
    assert failed(found) == ["not_worse"] and "SR 84% against 90%" in found.reasons[0]
    assert failed(verdict(evaluation(DIGEST, task="transfer"))) == ["not_worse"]
    assert verdict({**champion, "closed_loop": None}, successes=60).promote


def test_a_missing_comparison_is_a_refusal_and_a_missing_figure_an_error():
    values = evaluation(DIGEST)
    assert failed(decide({**values, "paired": {}}, None, Policy())) == ["advantage"]
    del values["closed_loop"]["policy"]["sr_low"]
    with pytest.raises(UserError, match=r"closed_loop\.policy\.sr_low"):
        decide(values, None, Policy())


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_the_gate_is_monotone(successes, better, mean):
    """More successes with everything else equal never turn a pass into a refusal."""
    low, high = sorted((successes, better))
    if verdict(successes=low, mean=mean).promote:
        assert verdict(successes=high, mean=mean).promote


def test_an_alias_that_mlflow_reserves_is_refused():
    with pytest.raises(UserError, match=r"promote\.alias"):
        step.Parameters(alias="latest")


def champion():
    found = tracking.version_of_alias(MODEL, "champion")
    return None if found is None else found.version


def test_a_pass_moves_the_alias_and_the_ledger_says_why(home, bundles, tmp_path):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    summary = promote(tmp_path, inputs)
    assert summary["promoted"] and champion() == "1"
    (entry,) = Ledger().entries()
    assert (entry.action, entry.source, entry.target) == (PROMOTE, None, "1")
    assert entry.bundle_digest == bundles[0].digest and entry.reasons[0].startswith("100 trials")
    assert entry.evidence == tracking.get_version(MODEL, "1").tags["evaluation_digest"]
    written = json.loads((tmp_path / "promotion" / "promotion.json").read_text())
    assert written["promoted"] and written["verdict"]["checks"][0]["name"] == "trials"
    assert drift.check(MODEL) == [] and step.verify(tmp_path / "promotion")


def test_running_again_moves_nothing_and_writes_the_same_bytes(home, bundles, tmp_path):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    promote(tmp_path, inputs)
    content = (tmp_path / "promotion" / "promotion.json").read_bytes()
    promote(tmp_path, inputs)
    assert len(Ledger().entries()) == 1
    assert (tmp_path / "promotion" / "promotion.json").read_bytes() == content


def test_a_refusal_is_a_result(home, bundles, tmp_path):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest, successes=1, trials=2, mean=0))
    summary = promote(tmp_path, inputs)
    assert not summary["promoted"] and summary["verdict"].startswith("not promoted: 2 trials")
    assert champion() is None and Ledger().entries() == ()
    assert step.verify(tmp_path / "promotion")
    values = {**evaluation(bundles[1].digest), "closed_loop": None, "closed_loop_reason": None, "paired": {}}
    inputs, _ = register(tmp_path / "b", bundles[1], values)
    assert promote(tmp_path / "b", inputs)["verdict"] == "not promoted: no closed-loop evidence"


def test_the_next_champion_is_compared_with_the_present_one(home, bundles, tmp_path):
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=90))
    worse = register_and_promote(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=70))
    assert not worse["promoted"] and "against 90% of the champion" in worse["verdict"] and champion() == "1"
    better = register_and_promote(tmp_path / "c", bundles[2], evaluation(bundles[2].digest, successes=95))
    assert better["promoted"] and champion() == "3"
    assert Ledger().entries()[-1].source == "1"


def test_evidence_of_another_evaluation_is_refused(home, bundles, tmp_path):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest, successes=10))
    forged = tmp_path / "evaluation" / "evaluation.json"
    forged.write_text(json.dumps(evaluation(bundles[0].digest, successes=100)))
    with pytest.raises(UserError, match="was registered with evaluation"):
        promote(tmp_path, inputs)
    assert champion() is None


def test_stored_evidence_that_was_changed_is_refused(home, bundles, tmp_path):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest, successes=10))
    (stored,) = (home / "evaluations").iterdir()
    stored.write_text(json.dumps(evaluation(bundles[0].digest, successes=100)))
    with pytest.raises(UserError, match="was changed after it was stored"):
        promote(tmp_path, inputs)


def test_a_damaged_bundle_is_not_promoted(home, bundles, tmp_path):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    (home / "bundles" / bundles[0].digest / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="missing or damaged"):
        promote(tmp_path, inputs)
    assert champion() is None and Ledger().entries() == ()


def two_champions(tmp_path, bundles):
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=80))
    register_and_promote(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=85))
    assert champion() == "2"


def test_rollback_and_what_a_later_run_may_do(home, bundles, tmp_path):
    two_champions(tmp_path, bundles)
    entry = moves.rollback(MODEL, "champion", to=None, reason="it drops cubes")
    assert (entry.action, entry.source, entry.target) == (ROLLBACK, "2", "1") and champion() == "1"
    assert drift.check(MODEL) == []
    # The finished step of version 2 still counts: its promotion is in the ledger, and so is what came after.
    assert step.verify(tmp_path / "b" / "promotion")
    inputs = {"version": tmp_path / "b" / "version", "evaluation": tmp_path / "b" / "evaluation"}
    again = promote(tmp_path / "b", inputs)
    assert not again["promoted"] and "rolled back by" in again["verdict"] and "it drops cubes" in again["verdict"]
    assert champion() == "1"
    with pytest.raises(UserError, match="no version held it before version 1; `lingbot models promote` moves it"):
        moves.rollback(MODEL, "champion", to=None, reason="more")
    # By hand it can be promoted again.
    version = tracking.get_version(MODEL, "2")
    moves.promote(version, "champion", verdicts.judge(version, "champion", Policy()))
    assert champion() == "2"


def test_rollback_to_an_earlier_holder_only(home, bundles, tmp_path):
    with pytest.raises(UserError, match="nobody ever held it"):
        moves.rollback(MODEL, "champion", to=None, reason="x")
    two_champions(tmp_path, bundles)
    register(tmp_path / "c", bundles[2], evaluation(bundles[2].digest))
    with pytest.raises(UserError, match="unknown earlier holder"):
        moves.rollback(MODEL, "champion", to="3", reason="x")
    assert moves.rollback(MODEL, "champion", to="v1", reason="x").target == "1"


def test_a_rollback_to_what_holds_the_alias_again_is_refused(home, bundles, tmp_path):
    two_champions(tmp_path, bundles)
    version = tracking.get_version(MODEL, "1")
    moves.promote(version, "champion", verdicts.judge(version, "champion", Policy()), override_reason="back by hand")
    with pytest.raises(UserError, match="'champion' of .* is at version 1 already: there is nothing to roll back"):
        moves.rollback(MODEL, "champion", to="1", reason="x")
    assert moves.rollback(MODEL, "champion", to=None, reason="x").target == "2"


def test_an_override_is_recorded_with_what_the_gate_said(home, bundles, tmp_path):
    register(tmp_path, bundles[0], evaluation(bundles[0].digest, successes=30))
    version = tracking.get_version(MODEL, "1")
    found = verdicts.judge(version, "champion", Policy())
    with pytest.raises(UserError, match="--override --reason"):
        moves.promote(version, "champion", found)
    entry = moves.promote(version, "champion", found, override_reason="a demonstration tomorrow")
    assert entry.action == OVERRIDE and entry.reasons[0] == "a demonstration tomorrow" and "SR 30%" in entry.reasons[1]
    stored = verdicts.stored_verdict(tracking.get_version(MODEL, "1"))
    assert stored["promote"] is False and stored["policy"]["min_trials"] == 50


def test_drift_is_told(home, bundles, tmp_path):
    two_champions(tmp_path, bundles)
    tracking.set_alias(MODEL, "champion", "1")
    assert drift.check(MODEL) == ["alias 'champion' points at version 1, and the ledger has it at 2"]
    assert not step.verify(tmp_path / "b" / "promotion")
    tracking.set_alias(MODEL, "champion", "2")
    tracking.set_alias(MODEL, "mine", "1")
    assert drift.check(MODEL) == ["alias 'mine' points at version 1, and the ledger has no entry for it"]
    with tracking.connection() as client:
        client.delete_registered_model_alias(MODEL, "mine")
        client.delete_registered_model_alias(MODEL, "champion")
    assert drift.check(MODEL) == ["alias 'champion' is not set, and the ledger has it at version 2"]
    (home / "bundles" / bundles[1].digest / "config.json").unlink()
    assert "bundle of version 2 is missing or damaged" in drift.check(MODEL)[1]


def test_a_kill_between_ledger_and_alias_is_put_right_by_running_again(home, bundles, tmp_path, monkeypatch):
    inputs, _ = register(tmp_path, bundles[0], evaluation(bundles[0].digest))

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(tmp_path, inputs)
    assert drift.check(MODEL) == ["alias 'champion' is not set, and the ledger has it at version 1"]
    assert promote(tmp_path, inputs)["promoted"] and champion() == "1"
    assert drift.check(MODEL) == []
