"""Drift: ledger, alias, evidence and what endpoints serve, held against each other."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import datetime

import pytest

from components.adapters import tracking
from components.ledger import Ledger
from components.promote import moves
from components.promote.drift import check, check_head, check_served
from components.promote.verdicts import standing_verdict
from components.routing_state import standing
from components.servings import GONE_AFTER_SECONDS, Serving, report_serving, servings
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


def later(seconds):
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")


def serving(version="2", digest="b" * 64, **more):
    values = {"endpoint": "robots-8000", "model": MODEL, "alias": "champion", "since": later(-60)}
    return Serving(**{**values, "version": version, "digest": digest, **more})


@pytest.fixture
def two(home, bundles, tmp_path):
    """Version 2 is champion, 1 was."""
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=80))
    register_and_promote(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=85))
    assert check(MODEL) == []


@pytest.mark.parametrize("past_the_ledger", ["moved", "taken away"])
def test_an_alias_that_left_the_ledger_lowers_no_bar(two, bundles, tmp_path, past_the_ledger):
    """60% pass beside a champion of 10%, and with none; the ledger's has 85%."""
    register(tmp_path / "weak", bundles[2], evaluation(bundles[2].digest, successes=10))
    register(tmp_path / "next", bundles[0], evaluation(bundles[0].digest, successes=60))
    if past_the_ledger == "moved":
        tracking.set_alias(MODEL, "champion", "3")
    else:
        with tracking.connection() as client:
            client.delete_registered_model_alias(MODEL, "champion")
    verdict = standing_verdict(tracking.get_version(MODEL, "4"), "champion")
    assert not verdict.promote and "SR 60% against 85% of the champion" in "; ".join(verdict.reasons)


def test_a_ledger_whose_end_was_cut_off_is_seen(two, home):
    ledger = home / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0])
    tracking.set_alias(MODEL, "champion", "1")
    assert Ledger().verify() == [], "the chain alone does not see it"
    assert check(MODEL) == ["the ledger has 1 entries, and the registry saw 2: its end was cut off"]


def test_a_ledger_that_was_written_anew_is_seen(two, home):
    head = tracking.model_tags(MODEL)[moves.HEAD_TAG]
    ledger = Ledger()
    old = ledger.entries()
    (home / "ledger.jsonl").unlink()
    for entry in old:
        ledger.append(
            action=entry.action, model=entry.model, alias=entry.alias, source=entry.source, target=entry.target,
            bundle_digest=entry.bundle_digest, evidence=entry.evidence, verdict=entry.verdict, reasons=("nicer",),
        )  # fmt: skip
    assert check_head(ledger.entries(), head) == [
        "entry 2 of the ledger is not the one that the registry saw: the ledger was written anew"
    ]
    assert check_head((), None) == []


def test_an_endpoint_that_does_not_follow_is_an_alarm(two, bundles):
    report_serving(serving(version="2", digest=bundles[1].digest))
    report_serving(serving(version="1", digest=bundles[0].digest, endpoint="robots-8001"))
    report_serving(serving(version="9", digest="x", endpoint="robots-8002", alias="spare"))
    assert check(MODEL) == ["endpoint robots-8002 serves version 9 as 'spare', and the ledger has no entry for it"], (
        "what moved a moment ago is still being followed"
    )
    now = {"champion": standing(Ledger().history(MODEL, "champion"))}
    faults = check_served(now, [serving("1", bundles[0].digest, seen=later(300))])
    assert len(faults) == 1 and "serves version 1" in faults[0] and "has 'champion' at 2 since" in faults[0]
    faults = check_served(now, [serving("2", "f" * 64, seen=later(300))])
    assert len(faults) == 1 and "serves bundle ffffffffffff as version 2" in faults[0]
    assert check_served(now, [serving("2", bundles[1].digest, seen=later(300))]) == []


def test_a_canary_of_another_registry_is_seen(two, bundles, tmp_path):
    register(tmp_path / "c", bundles[2], evaluation(bundles[2].digest, successes=86))
    version = tracking.get_version(MODEL, "3")
    moves.start_canary(version, "champion", 0.1, standing_verdict(version, "champion"))
    assert check(MODEL) == []
    tracking.tag_version(version, {"bundle_digest": bundles[0].digest})
    assert any("the canary of 'champion', version 3, has the digest" in fault for fault in check(MODEL))


def test_an_edited_verdict_is_seen(two, home):
    version = tracking.get_version(MODEL, "2")
    text = version.tags["verdict"]
    tracking.tag_version(version, {"verdict": text.replace("85%", "95%")})
    assert check(MODEL) == ["version 2: its stored verdict was edited after it was given"]
    tracking.tag_version(version, {"verdict": text})
    entry = Ledger().entries()[-1]
    (home / "verdicts" / f"{entry.verdict}.json").unlink()
    assert "is gone" in check(MODEL)[0]


def test_records_of_endpoints_that_are_gone_do_not_count(home):
    report_serving(serving())
    report_serving(serving(endpoint="other", model="lingbot-vla-gr1"))
    (found,) = servings(MODEL)
    assert found.endpoint == "robots-8000" and found.seen
    report_serving(serving(version="3"))
    assert [one.version for one in servings(MODEL)] == ["3"]
    after = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=GONE_AFTER_SECONDS + 2)
    assert servings(MODEL, now=after) == ()
    with pytest.raises(UserError, match="endpoint name"):
        report_serving(serving(endpoint="../x"))
