"""The third journey with everything but the registry's database in a bucket, and a second machine that reads it."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import shutil

import pytest

from components.adapters import tracking
from components.bundles import bundle_folder, fetch_bundle
from components.ledger import Ledger
from components.promote import moves
from components.promote.drift import check
from components.promote.verdicts import standing_verdict
from components.routing_state import RoutingUnavailable, read_routing
from model.bundle_files import verify_bundle
from tests.components.gate_evidence import evaluation, lines, trial
from tests.registry_house import bundles, home, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"


def version(number):
    return tracking.get_version(MODEL, number)


@pytest.fixture
def two(s3, home, bundles, tmp_path, monkeypatch):
    """Two registered versions, nothing promoted."""
    monkeypatch.setenv("LINGBOT_STORAGE", "s3://artefacts/pipelines")
    for number, solved in enumerate((78, 95)):
        records = [trial(seed, seed < solved, bundle=bundles[number].digest) for seed in range(100)]
        folder = tmp_path / str(number)
        folder.mkdir()
        register(folder, bundles[number], evaluation(records), lines(records))


def test_promoted_here_followed_there_and_taken_back(two, s3, home, tmp_path, monkeypatch):
    for number in ("1", "2"):
        entry = moves.promote(version(number), "champion", standing_verdict(version(number), "champion"))
    # Registration kept the trials, so the comparison is pair by pair although no pipeline judged either.
    assert any("on the same 100 seeds" in reason for reason in entry.reasons)
    assert not (home / "ledger.jsonl").exists() and not (home / "bundles").exists()
    assert check(MODEL, deep=True) == []

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "server"))
    champion = read_routing(MODEL, "champion").champion
    assert champion.version == "2"
    assert verify_bundle(fetch_bundle(champion.digest, champion.uri), digest=version("2").digest)
    moves.rollback(MODEL, "champion", to=None, reason="from another machine")
    shutil.rmtree(bundle_folder(champion.digest))

    monkeypatch.setenv("LINGBOT_HOME", str(home))
    assert read_routing(MODEL, "champion").champion.version == "1"
    assert [entry.target for entry in Ledger().entries()] == ["1", "2", "1"] and check(MODEL) == []


def test_a_bucket_that_is_away_is_a_named_error(two, s3, monkeypatch):
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)  # the pauses between its attempts
    moves.promote(version("1"), "champion", standing_verdict(version("1"), "champion"))
    s3.faults.pending[:] = ["503"] * 50
    with pytest.raises(RoutingUnavailable, match="storage at http"):
        read_routing(MODEL, "champion")
    s3.faults.pending.clear()
    assert read_routing(MODEL, "champion").champion.version == "1"
