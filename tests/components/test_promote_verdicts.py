"""What a version may be promoted by: the stored verdict as long as it stands, and no other."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json

import pytest

from components.adapters import tracking
from components.ledger import Ledger
from components.promote import moves, verdicts
from components.promote.gate import Policy
from components.promote.gate.verdict import digest_of
from model.errors import UserError
from tests.registry_house import bundles, evaluation, home, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"
STRICT = Policy(min_trials=101)


@pytest.fixture
def first(home, bundles, tmp_path):
    """A registered version that its run's gate refused."""
    register(tmp_path / "a", bundles[0], evaluation(bundles[0].digest))
    verdicts.judge(version("1"), "champion", STRICT)


def version(number):
    return tracking.get_version(MODEL, number)


def edit(change):
    stored = json.loads(version("1").tags[verdicts.VERDICT_TAG])
    change(stored)
    tracking.tag_version(version("1"), {verdicts.VERDICT_TAG: json.dumps(stored)})


def test_the_stored_verdict_stands_while_its_inputs_do(first):
    found = verdicts.standing_verdict(version("1"), "champion")
    assert not found.promote and found.policy == STRICT
    assert verdicts.stored_verdict(version("1"))["digest"] == found.to_json()["digest"]


def test_every_verdict_is_kept_and_the_ledger_names_it(first, home):
    entry = moves.promote(
        version("1"), "champion", verdicts.standing_verdict(version("1"), "champion"), override_reason="a try"
    )
    kept = verdicts.read_verdict(entry.verdict)
    assert kept["promote"] is False and kept["policy"]["min_trials"] == 101
    assert any("by a policy of its own" in reason for reason in Ledger().entries()[0].reasons)
    path = home / "verdicts" / f"{entry.verdict}.json"
    path.write_text(path.read_text().replace('"promote": false', '"promote": true'))
    with pytest.raises(UserError, match="was changed after it was given"):
        verdicts.read_verdict(entry.verdict)


def test_a_verdict_that_was_turned_is_refused(first):
    edit(lambda stored: stored.update(promote=True))
    with pytest.raises(UserError, match=r"was edited after it was given.*--judge-again"):
        verdicts.standing_verdict(version("1"), "champion")


def test_demands_that_were_lowered_are_not_asked_again(first):
    """For another alias, or against another champion, the gate is asked again: not by an edited policy."""
    edit(lambda stored: stored["policy"].update(min_trials=1))
    with pytest.raises(UserError, match="was edited after it was given"):
        verdicts.standing_verdict(version("1"), "spare")


def test_a_verdict_that_was_turned_with_its_digest_is_refused(first):
    def forge(stored):
        stored["promote"] = True
        values = {name: value for name, value in stored.items() if name not in ("alias", "champion")}
        stored["digest"] = digest_of(values)

    edit(forge)
    with pytest.raises(UserError, match=r"not what the gate says on its inputs.*--judge-again"):
        verdicts.standing_verdict(version("1"), "champion")


def test_a_verdict_on_another_evaluation_is_refused(first, home):
    def of_another(stored):
        stored["inputs"]["evaluation"] = "0" * 64
        values = {name: value for name, value in stored.items() if name not in ("alias", "champion")}
        stored["digest"] = digest_of(values)

    edit(of_another)
    with pytest.raises(UserError, match="given on evaluation 000000000000"):
        verdicts.standing_verdict(version("1"), "champion")


def test_another_champion_asks_the_gate_again_by_the_same_policy(first, bundles, tmp_path):
    register(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=85))
    second = verdicts.judge(version("2"), "champion", Policy())
    moves.promote(version("2"), "champion", second)
    found = verdicts.standing_verdict(version("1"), "champion")
    assert found.policy == STRICT and any(check.name == "not_worse" for check in found.checks)
    assert verdicts.stored_verdict(version("1"))["champion"] == "2"


def test_for_another_alias_the_gate_is_asked_again(first):
    verdicts.standing_verdict(version("1"), "spare")
    assert verdicts.stored_verdict(version("1"))["alias"] == "spare"


def test_a_version_that_no_gate_saw_is_judged_by_what_ships(home, bundles, tmp_path):
    register(tmp_path / "a", bundles[0], evaluation(bundles[0].digest))
    assert verdicts.standing_verdict(version("1"), "champion").promote
