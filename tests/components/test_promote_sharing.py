"""Canary and shadow: who may share an alias's traffic, and what ends it. And two machines that promote at once."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import pytest

from components.adapters import tracking
from components.ledger import CANARY, PROMOTE, SHADOW, Ledger
from components.promote import moves
from components.promote.drift import check
from components.promote.verdicts import standing_verdict
from components.routing_state import read_routing
from model.errors import UserError
from tests.registry_house import (  # noqa: F401
    bundles,
    evaluation,
    home,
    register,
    register_and_promote,
    registry_template,
)

MODEL = "lingbot-vla-aloha_sim"


def version(number):
    return tracking.get_version(MODEL, number)


def canary(number, share=0.2, **more):
    return moves.start_canary(version(number), "champion", share, standing_verdict(version(number), "champion"), **more)


@pytest.fixture
def three(home, bundles, tmp_path):
    """1 is champion, 2 is good, 3 is not."""
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=80))
    register(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=85))
    register(tmp_path / "c", bundles[2], evaluation(bundles[2].digest, successes=10))


def test_a_canary_needs_what_a_promotion_needs(three):
    with pytest.raises(UserError, match=r"not promoted: SR 10%.*To make it a canary all the same"):
        canary("3")
    entry = canary("2")
    assert (entry.action, entry.source, entry.target, entry.share) == (CANARY, None, "2", 0.2)
    assert entry.verdict == standing_verdict(version("2"), "champion").to_json()["digest"]
    overridden = canary("3", override_reason="to see it fail")
    assert (overridden.source, overridden.reasons[0]) == ("2", "to see it fail")
    found = read_routing(MODEL, "champion")
    assert (found.champion.version, found.canary.version, found.share) == ("1", "3", 0.2)
    assert check(MODEL) == []


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_is_a_part(three, share):
    with pytest.raises(UserError, match="must be between 0 and 1"):
        canary("2", share)


def test_shadow_and_canary_go_beside_a_champion_that_is_another(three):
    with pytest.raises(UserError, match="holds 'champion'"):
        canary("1")
    with pytest.raises(UserError, match="nobody holds 'spare'"):
        moves.start_shadow(version("2"), "spare", "x")
    entry = moves.start_shadow(version("3"), "champion", "to compare")
    assert (entry.action, entry.target, entry.verdict, entry.reasons) == (SHADOW, "3", None, ("to compare",))


def test_both_are_ended_by_hand_and_once(three):
    canary("2")
    assert (ended := moves.end(MODEL, "champion", CANARY, "enough")).source == "2" and ended.target is None
    assert read_routing(MODEL, "champion").canary is None
    with pytest.raises(UserError, match="has no canary"):
        moves.end(MODEL, "champion", CANARY, "enough")
    with pytest.raises(UserError, match="has no shadow"):
        moves.end(MODEL, "champion", SHADOW, "enough")


def test_one_rollback_takes_everything_back(three):
    moves.promote(version("2"), "champion", standing_verdict(version("2"), "champion"))
    canary("3", override_reason="x")
    moves.rollback(MODEL, "champion", to=None, reason="they drop cubes")
    found = read_routing(MODEL, "champion")
    assert (found.champion.version, found.canary) == ("1", None)


def test_a_damaged_bundle_shares_nothing(three, home, bundles):
    (home / "bundles" / bundles[1].digest / "model.safetensors").write_bytes(b"x")
    for start in (lambda: canary("2"), lambda: moves.start_shadow(version("2"), "champion", "x")):
        with pytest.raises(UserError, match="missing or damaged"):
            start()


def test_a_reserved_alias_leaves_no_entry(three):
    entries = len(Ledger().entries())
    for alias in ("latest", "v3", "a b"):
        with pytest.raises(UserError, match="alias"):
            moves.promote(version("2"), alias, standing_verdict(version("2"), alias))
    assert len(Ledger().entries()) == entries


def test_who_decided_on_an_older_state_is_refused(three, monkeypatch):
    """Another machine promotes after the verdict was checked, and before the entry."""

    def then_somebody_else(alias):
        Ledger().append(
            action=PROMOTE, model=MODEL, alias="champion", source="1", target="3", bundle_digest="x", evidence=None,
            reasons=(), who="another machine",
        )  # fmt: skip

    verdict = standing_verdict(version("2"), "champion")
    monkeypatch.setattr(tracking, "check_alias", then_somebody_else)
    with pytest.raises(UserError, match="at the same time .promote by another machine"):
        moves.promote(version("2"), "champion", verdict)
    assert [entry.target for entry in Ledger().entries()] == ["1", "3"]


def test_the_alias_follows_the_later_entry(three, monkeypatch):
    """Ours is written, then another machine's; both set the alias, ours last: the ledger's last one holds."""
    set_alias, others = tracking.set_alias, []

    def set_late(model, alias, number):
        if not others:
            others.append(
                Ledger().append(
                    action=PROMOTE, model=MODEL, alias="champion", source="2", target="3",
                    bundle_digest=version("3").digest, evidence=None, reasons=(),
                )
            )  # fmt: skip
            set_alias(model, alias, "3")
        set_alias(model, alias, number)

    monkeypatch.setattr(tracking, "set_alias", set_late)
    moves.promote(version("2"), "champion", standing_verdict(version("2"), "champion"))
    assert tracking.version_of_alias(MODEL, "champion").version == "3"
    assert check(MODEL) == []
