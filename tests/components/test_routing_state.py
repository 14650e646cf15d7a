"""What an endpoint polls: the alias as far as the ledger bears it out, with canary and shadow."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import dataclasses

import pytest

from components.adapters import tracking
from components.ledger import CANARY, PROMOTE, ROLLBACK, SHADOW, Ledger
from components.routing_state import (
    NotPromoted,
    RoutingDrift,
    RoutingError,
    RoutingUnavailable,
    read_routing,
    standing,
)
from tests.registry_house import home, registry_template  # noqa: F401

MODEL = "lingbot-vla-test"


@pytest.fixture
def versions(home, monkeypatch):
    """Three registered versions, and no alias yet."""
    monkeypatch.setattr("components.routing_state._PAUSE_SECONDS", 0.0)
    return [
        tracking.register_version(MODEL, uri=f"file:///bundles/{number}", digest=str(number) * 64, tags={})
        for number in (1, 2, 3)
    ]


def write(action, target, *, source=None, share=None, digest=None):
    digest = digest or (target * 64 if target else None)
    return Ledger().append(
        action=action, model=MODEL, alias="champion", source=source, target=target, bundle_digest=digest,
        evidence=None, reasons=(), share=share,
    )  # fmt: skip


def promote(target, *, source=None, action=PROMOTE):
    write(action, target, source=source)
    tracking.set_alias(MODEL, "champion", target)


def read():
    return read_routing(MODEL, "champion")


def test_nobody_is_registered_yet(home):
    with pytest.raises(NotPromoted, match=f"{MODEL} has no version: `lingbot models list` shows what is"):
        read()


def test_nobody_is_promoted_yet(versions):
    with pytest.raises(NotPromoted, match="promote a version first"):
        read()


def test_the_champion_alone(versions):
    promote("1")
    found = read()
    assert (found.champion.version, found.champion.uri, found.champion.digest) == ("1", "file:///bundles/1", "1" * 64)
    assert (found.canary, found.share, found.shadow, found.drift, found.sequence) == (None, 0.0, None, (), 1)
    with pytest.raises(NotPromoted):
        read_routing(MODEL, "other")


def test_canary_and_shadow_come_and_go(versions):
    promote("1")
    write(CANARY, "2", share=0.25)
    write(SHADOW, "3")
    found = read()
    assert (found.canary.version, found.share, found.shadow.version) == ("2", 0.25, "3")
    write(CANARY, "2", share=0.5)
    assert read().share == 0.5
    write(CANARY, None, source="2")
    write(SHADOW, None, source="3")
    assert (read().canary, read().share, read().shadow) == (None, 0.0, None)


def test_a_movement_ends_the_canary_and_a_shadow_that_became_champion(versions):
    promote("1")
    write(CANARY, "2", share=0.25)
    write(SHADOW, "3")
    promote("2", source="1")
    assert (read().canary, read().shadow.version) == (None, "3")
    promote("3", source="2")
    assert read().shadow is None
    promote("2", source="3", action=ROLLBACK)
    assert read().shadow is None, "a rollback does not bring an ended shadow back"


def test_an_alias_that_went_past_the_ledger_is_not_followed(versions):
    tracking.set_alias(MODEL, "champion", "1")
    with pytest.raises(RoutingDrift, match="no entry for it"):
        read()
    promote("1")
    promote("2", source="1")
    tracking.set_alias(MODEL, "champion", "3")
    with pytest.raises(RoutingDrift, match="points at version 3, and the ledger has it at 2"):
        read()
    with tracking.connection() as client:
        client.delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(RoutingDrift, match="is not set, and the ledger has it at version 2"):
        read()


def test_an_interrupted_promotion_leaves_the_version_before(versions):
    promote("1")
    write(PROMOTE, "2", source="1")
    found = read()
    assert found.champion.version == "1" and "a promotion was interrupted" in found.drift[0]


def test_an_old_holder_set_by_hand_is_no_interrupted_promotion(versions):
    """Version 1 did pass once, but it is two movements back: somebody went past the ledger."""
    promote("1")
    promote("2", source="1")
    promote("3", source="2")
    tracking.set_alias(MODEL, "champion", "1")
    with pytest.raises(RoutingDrift):
        read()


def test_a_version_that_is_another_bundle_now_is_not_followed(versions):
    promote("1")
    tracking.tag_version(versions[0], {"bundle_digest": "f" * 64})
    with pytest.raises(RoutingDrift, match="is bundle ffffffffffff in the registry"):
        read()


def test_a_canary_that_cannot_be_trusted_gets_no_traffic(versions):
    promote("1")
    write(CANARY, "2", share=0.5, digest="0" * 64)
    write(SHADOW, "9")
    found = read()
    assert (found.champion.version, found.canary, found.share, found.shadow) == ("1", None, 0.0, None)
    assert len(found.drift) == 2 and "version 9, which the registry does not have" in found.drift[1]


def test_a_reader_between_ledger_and_alias_reads_again(versions, monkeypatch):
    promote("1")
    write(PROMOTE, "2", source="1")
    monkeypatch.setattr(
        "components.routing_state.time.sleep", lambda seconds: tracking.set_alias(MODEL, "champion", "2")
    )
    found = read()
    assert found.champion.version == "2" and found.drift == ()


def test_a_registry_that_is_away_is_a_named_error(versions, monkeypatch):
    promote("1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RoutingUnavailable, match="cannot be read"):
        read()
    assert issubclass(RoutingUnavailable, RoutingError) and not issubclass(RoutingUnavailable, RoutingDrift)


def test_a_broken_ledger_is_a_named_error(versions, home):
    promote("1")
    ledger = home / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"target":"1"', b'"target":"2"') * 2)
    with pytest.raises(RoutingUnavailable, match="line 2 does not continue"):
        read()


def test_standing_is_a_pure_fold(versions):
    entries = [write(PROMOTE, "1"), write(CANARY, "2", share=0.1)]
    assert standing(entries).canary.share == 0.1 and standing(()).champion is None
    moved = dataclasses.replace(entries[0], target="2", sequence=3)
    assert standing([*entries, moved]).canary is None
