"""Lineage, from the version back to the data and from the data forward to what serves it."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json

import pytest

from components import state
from components.adapters import tracking
from components.provenance import provenance
from components.provenance_files import write_for_run
from components.register.trace import find_versions, trace
from components.servings import Serving, report_serving
from model.errors import UserError
from pipelines.cli import main
from tests.records_of_runs import run_record
from tests.registry_house import (  # noqa: F401
    bundles,
    evaluation,
    home,
    register,
    register_and_promote,
    registry_template,
)

MODEL = "lingbot-vla-aloha_sim"
TAG = "data/kitchen-v2"


@pytest.fixture
def served(home, bundles, tmp_path, monkeypatch):
    """Version 1 by hand; version 2 of a run on a dataset's tag, promoted and served."""
    register(tmp_path / "a", bundles[0], evaluation(bundles[0].digest))
    write_for_run("20261122-1", provenance({}, data={"tag": TAG, "commit": "c" * 40, "digests": {}}))
    monkeypatch.setenv("LINGBOT_RUN_ID", "20261122-1")
    register_and_promote(tmp_path / "b", bundles[1], evaluation(bundles[1].digest))
    monkeypatch.delenv("LINGBOT_RUN_ID")
    second = tracking.get_version(MODEL, "2")
    tracking.tag_version(second, {"dataset_digest": "d" * 64, "step.collect": "f" * 64})
    report_serving(
        Serving(
            endpoint="robots-8000", model=MODEL, alias="champion", version="2", digest=second.digest,
            since="2026-11-22T20:00:00+00:00",
        )
    )  # fmt: skip


def test_back_from_a_version_to_its_data(served):
    found = trace(tracking.get_version(MODEL, "2"), releases=(TAG, "data/kitchen-v3")).to_json()
    assert found["dataset"]["tag"] == TAG and found["dataset"]["commit"] == "c" * 40
    assert found["dataset"]["digest"] == "d" * 64 and found["dataset"]["also_released_as"] == ["data/kitchen-v3"]
    assert found["run"]["id"] == "20261122-1" and found["run"]["command"] and found["run"]["steps"]["collect"]
    assert found["routes"] == {"champion": "champion"} and [e["target"] for e in found["ledger"]] == ["2"]
    assert [one["endpoint"] for one in found["endpoints"]] == ["robots-8000"] and found["faults"] == []


def test_forward_from_whatever_is_known(served, bundles):
    second = tracking.get_version(MODEL, "2")
    known = (
        "2", "v2", "champion", TAG, "20261122-1", "d" * 12, bundles[1].digest[:12], "f" * 64, "robots-8000",
        second.tags["provenance_digest"][:8],
    )  # fmt: skip
    for reference in known:
        assert [version.version for version in find_versions(reference)] == ["2"], reference
    assert [v.version for v in find_versions("data/other-v1", digests=("d" * 64,))] == ["2"]
    assert [v.version for v in find_versions(second.tags["git_commit"][:10])] == ["1", "2"]


def test_a_run_that_made_the_same_bundle_again_leads_to_its_version(served, bundles, capsys):
    made = {"name": "finetune", "status": "cached", "parameters": {}, "digest": "e" * 64}
    made["summary"] = {"bundle_digest": bundles[1].digest}
    run = run_record("20261123-000000-aaaa", threads=1, provenance=provenance({}), steps=[made])
    state.write_json(state.run_folder(run["id"]) / "run.json", run)
    for reference in ("last", run["id"]):
        assert main(["models", "lineage", reference, "--json"]) == 0
        assert [one["version"]["version"] for one in json.loads(capsys.readouterr().out)] == ["2"], reference


def test_a_study_is_said_to_lead_to_no_version(served, capsys):
    run = run_record("20261123-000001-aaaa", pipeline="study")
    state.write_json(state.run_folder(run["id"]) / "run.json", run)
    for reference in ("last", run["id"]):
        assert main(["models", "lineage", reference]) == 2
        assert (
            f"run {run['id']} is a study, which compares policies and registers none: give" in capsys.readouterr().err
        )


@pytest.mark.parametrize("reference", ["dddd", "data/kitchen-v9", "99", "nowhere-80"])
def test_what_leads_nowhere_is_said(served, reference):
    with pytest.raises(UserError, match="comes from or leads to"):
        find_versions(reference)


def test_provenance_that_was_changed_is_a_fault_of_the_lineage(served, home, bundles):
    (record,) = (home / "bundles" / f"{bundles[1].digest}.provenance").iterdir()
    record.write_text(record.read_text() + " ")
    found = trace(tracking.get_version(MODEL, "2"))
    assert found.provenance is None and "was changed after it was written" in found.faults[0]


def test_as_it_is_typed(served, capsys):
    assert main(["models", "lineage", TAG]) == 0
    said = capsys.readouterr().out
    for part in (TAG, "run     20261122-1", "version lingbot-vla-aloha_sim 2", "alias   'champion'", "robots-8000"):
        assert part in said, part
    assert said.index(TAG) < said.index("version ") < said.index("endpoint ")
    assert main(["models", "lineage", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["dataset"]["tag"] is None and found["endpoints"] == []
    assert main(["models", "lineage", "none"]) == 2
