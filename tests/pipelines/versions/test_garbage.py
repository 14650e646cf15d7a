"""What is referred to stays, whatever its age; the rest goes, and only when it is told to."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from components import records, state
from components.ledger import PROMOTE, Ledger
from components.liveness import alive
from model.errors import UserError
from pipelines.cli import main
from pipelines.versions import garbage
from pipelines.versions.garbage import Item, collect, plan_collection
from pipelines.versions.release import made_by_run
from tests.pipelines.versions.conftest import lingbot

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registry")]


def loose(days: float = 0) -> set[str]:
    """What nothing refers to, as kind and the beginning of the name."""
    return {f"{item.kind} {item.name[:20]}" for item in plan_collection(days) if item.kept is None}


def kept() -> dict[str, str]:
    return {item.name: item.kept for item in plan_collection(0) if item.kept is not None}


@pytest.fixture
def spare(released: Any) -> Path:
    """A finished step that no run, tag or version knows."""
    done = lingbot(released, "step", "annotate", "--set", "pack.amount=5", "--set", "annotate.amount=9")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1]).parent


def test_a_tag_keeps_its_steps_without_any_run(released: Any, spare: Path) -> None:
    made = made_by_run("last")
    assert loose() == {f"step annotate/{spare.name[:11]}"}
    shutil.rmtree(state.runs_folder())
    assert {name.split("/")[0] for name in loose()} == {"step annotate", "step register", "step promote"}
    removed = collect(plan_collection(0))
    assert len(removed) == 3 and not spare.exists()
    tagged = [artifact for step, artifact in made.artifacts.items() if step not in ("register", "promote")]
    assert all(records.verify(artifact) == [] for artifact in tagged)
    pack = made.artifacts["pack"]
    assert kept()[f"pack/{pack.fingerprint}"] == "the tag exp/first-v1"


def test_what_a_stopped_study_has_trained_stays(released: Any, spare: Path) -> None:
    """The tasks of a study have names of their own (`pretrain@0.5-1`): what they made lies under the step's."""
    run = json.loads((state.run_folder(made_by_run("last").run or "") / "run.json").read_text())
    task = {"name": "annotate@0.5-1", "step": "annotate", "status": "done", "fingerprint": spare.name}
    study = {**run, "id": "29991231-000000-abcd", "pipeline": "study", "status": "stopped", "steps": [task]}
    state.write_json(state.run_folder(study["id"]) / "run.json", study)
    assert kept()[f"annotate/{spare.name}"] == f"run {study['id']}"


def test_what_is_young_stays(released: Any, spare: Path) -> None:
    assert loose(days=1) == set()
    assert loose(days=0) != set()
    with pytest.raises(UserError, match="--keep-days is -1: it must be 0 or more"):
        plan_collection(-1)


def test_a_dry_run_removes_nothing(released: Any, spare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storage", "collect", "--dry-run", "--keep-days", "0"]) == 0
    said = capsys.readouterr().out
    assert f"would remove step annotate/{spare.name}" in said and "could be freed" in said and spare.exists()
    assert main(["storage", "collect", "--keep-days", "0"]) == 0
    assert f"removed step annotate/{spare.name}" in capsys.readouterr().out and not spare.exists()


def bundle(digest: str) -> Path:
    folder = state.home() / "bundles" / digest
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    beside = folder.with_name(f"{digest}.provenance")
    beside.mkdir()
    (beside / "x.json").write_text("{}")
    return folder


def test_versions_and_the_ledger_keep_bundles(released: Any) -> None:
    from components.adapters import tracking

    made = made_by_run("last")
    versioned, moved, spare = (bundle(letter * 64) for letter in "bcd")
    finetune = made.artifacts["finetune"]
    tags = {"step.finetune": finetune.fingerprint, "evaluation_digest": "e" * 64}
    tracking.register_version("lingbot-vla-house", uri="nowhere", digest=versioned.name, tags=tags)
    evidence = state.home() / "evaluations"
    evidence.mkdir()
    for letter in "ef":
        (evidence / f"{letter * 64}.json").write_text("{}")
    Ledger().append(
        action=PROMOTE, model="lingbot-vla-house", alias="champion", source=None, target="1",
        bundle_digest=moved.name, evidence=None, reasons=("good",), who="me",
    )  # fmt: skip
    assert loose() == {f"bundle {spare.name[:20]}", f"evaluation {'f' * 20}"}
    collect(plan_collection(0))
    assert versioned.exists() and moved.exists() and not spare.exists()
    assert not spare.with_name(f"{spare.name}.provenance").exists()
    assert versioned.with_name(f"{versioned.name}.provenance").exists()


def test_a_version_keeps_what_it_was_made_from(released: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.adapters import tracking

    finetune = made_by_run("last").artifacts["finetune"]
    monkeypatch.setattr("pipelines.versions.garbage._of_tags", lambda: iter(()))
    shutil.rmtree(state.runs_folder())
    assert {"step finetune", "step collect", "step pack"} <= {name.split("/")[0] for name in loose()}
    tags = {"step.finetune": finetune.fingerprint}
    tracking.register_version("lingbot-vla-house", uri="nowhere", digest="b" * 64, tags=tags)
    left = {name.split("/")[0] for name in loose()}
    assert left == {"step evaluate", "step register", "step promote"}, "ancestors stay without tags of their own"


def test_nothing_is_collected_beside_a_run(released: Any, spare: Path) -> None:
    items = plan_collection(0)
    with alive(made_by_run("last").run or ""), pytest.raises(UserError, match="is going on and may use"):
        collect(items)
    fingerprint = spare.name
    with records.lock("annotate", fingerprint, lambda holder: None):
        assert f"step annotate/{fingerprint[:11]}" not in loose()
        assert collect(items) == [] and spare.exists(), "a process took it up after it was listed"


def test_a_damaged_ledger_stops_it(released: Any, spare: Path) -> None:
    Ledger().append(
        action=PROMOTE, model="lingbot-vla-house", alias="champion", source=None, target="1",
        bundle_digest="b" * 64, evidence=None, reasons=("good",), who="me",
    )  # fmt: skip
    path = state.home() / "ledger.jsonl"
    path.write_text(path.read_text().replace("b" * 64, "c" * 64) + "x")
    with pytest.raises(UserError, match="ledger"):
        plan_collection(0)
    assert spare.exists()


def test_the_report_has_every_kind(released: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cache = state.home() / "dvc-cache" / "files"
    cache.mkdir(parents=True)
    (cache / "x").write_bytes(bytes(1 << 20))
    assert main(["storage", "report"]) == 0
    said = capsys.readouterr().out
    assert "cache             1         1.0 MiB, of which nothing refers to 1 (1.0 MiB)" in said
    assert "dvc-remote: never collected" in said
    assert main(["storage", "report", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert {item["kind"] for item in items} == {"step", "run", "cache"}


def test_what_goes_while_it_is_counted_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.utime(tmp_path / "a", (1.0, 7.0))
    monkeypatch.setattr(os, "walk", lambda path: [(str(path), [], ["a", "scratch that is gone"])])
    assert garbage._size(tmp_path) == (5, 7.0)


def test_items_are_collected_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / "reproductions" / name).mkdir(parents=True)
    items = [
        Item(kind="reproduction", name=name, path=tmp_path / "reproductions" / name, size=1, age=1.0, kept=why)
        for name, why in (("a", None), ("b", "it is going on"))
    ]
    assert [item.name for item in collect(items)] == ["a"]
    assert [path.name for path in (tmp_path / "reproductions").iterdir()] == ["b"]
