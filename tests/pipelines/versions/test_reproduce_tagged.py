"""A registered version is made again where nothing is left of what made it but its tags."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.adapters.versioning import Git
from components.exchange import read_export
from model.errors import UserError
from pipelines.versions.release import DATA_STEPS, made_by_run
from pipelines.versions.reproduction import reproduce
from pipelines.versions.tags import find_release
from pipelines.versions.targets import find_target

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registry")]
MODEL = "lingbot-vla-house"


def register(*, data: dict[str, Any] | None = None, run: str | None = None, **other: str) -> None:
    """A version of the house's run in its registry, with provenance that names this data and run."""
    from components.adapters import tracking
    from components.provenance_files import keep_beside_bundle, read_for_run

    made = made_by_run("last")
    record = read_for_run(made.run or "")
    assert record is not None
    kept = keep_beside_bundle("b" * 64, {**record, "data": data, "run": run})
    steps = {f"step.{step}": artifact.fingerprint for step, artifact in made.artifacts.items()}
    tags = {"provenance_digest": kept, "dataset_digest": made.artifacts["collect"].digest, **steps, **other}
    tracking.register_version(MODEL, uri="nowhere", digest="b" * 64, tags=tags)


def lose(house: Any) -> None:
    """What a colleague's machine has not: the finished steps, and the records of runs."""
    for name in ("steps", "runs"):
        shutil.rmtree(house.home / name)


def data_of(tag: str) -> dict[str, Any]:
    return {"tag": tag, "commit": find_release(tag).commit, "digests": {}}


def test_what_its_run_was_recorded_with_is_fetched_by_the_experiment_s_tag(released, tmp_path: Path) -> None:
    made = made_by_run("last")
    register(run=made.run)
    lose(released)
    target = find_target("1")
    # The run is not known any more either; registering and promoting made nothing that a release holds.
    assert target.result.name == f"{MODEL}/1" and target.fetchable == {*made.artifacts} - {"register", "promote"}
    (tmp_path / "tree" / "artifacts").mkdir(parents=True)
    target.fetch(tmp_path / "tree", ["finetune"])
    assert read_export(tmp_path / "tree/artifacts/finetune").digest == made.artifacts["finetune"].digest


def test_its_data_is_fetched_by_the_recorded_tag(released, tmp_path: Path) -> None:
    """Ingested from the tag: there it was collected, the same bytes under another name."""
    made = made_by_run("last").artifacts
    register(data=data_of("data/first-v1"), **{"step.ingest": "f" * 64})
    lose(released)
    target = find_target("1")
    # The house's version has both sources; the real one has either.
    assert target.source == "ingest" and target.fetchable == {*DATA_STEPS}
    assert target.result.digests["ingest"] == made["collect"].digest
    (tmp_path / "tree" / "artifacts").mkdir(parents=True)
    target.fetch(tmp_path / "tree", ["ingest", "pack"])
    found = {path.name: read_export(path).digest for path in (tmp_path / "tree" / "artifacts").iterdir()}
    assert found == {"ingest": made["collect"].digest, "pack": made["pack"].digest}
    assert (tmp_path / "tree/artifacts/ingest/data/result.txt").is_file()
    assert Git(released.root).run("worktree", "list").count("\n") == 0


def test_the_remote_that_is_given_is_asked(released, tmp_path: Path) -> None:
    register(data=data_of("data/first-v1"))
    lose(released)
    with pytest.raises(UserError, match="`dvc pull"):
        find_target("1", remote=str(tmp_path / "empty")).fetch(tmp_path, ["pack"])
    assert not (tmp_path / "artifacts").exists()


def test_data_whose_tag_was_moved_is_refused(released) -> None:
    data = data_of("data/first-v1")
    register(data={**data, "commit": "c" * 40})
    lose(released)
    with pytest.raises(
        UserError, match=rf"data/first-v1' that {MODEL}/1 .* moved from commit cccccccccccc to {data['commit'][:12]}"
    ):
        find_target("1")


def test_other_data_under_the_tag_is_not_taken(released) -> None:
    register(data=data_of("data/first-v1"), **{"step.pack": "f" * 64})
    lose(released)
    assert find_target("1").fetchable == {*DATA_STEPS} - {"ingest", "pack"}


def test_ingested_data_whose_tag_is_not_here_is_asked_for(released) -> None:
    register(data=data_of("data/first-v1"), **{"step.ingest": "f" * 64})
    lose(released)
    for tag in ("data/first-v1", "exp/first-v1"):
        Git(released.root).run("tag", "-d", tag)
    target = find_target("1")
    with pytest.raises(UserError, match="ingested dataset of .* bring the tag of its data with `git fetch --tags`"):
        reproduce(dataclasses.replace(target, whole=True), lambda text: None)
