"""Releases of data and experiments: real git, real DVC, and each fault that must not pass."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import records
from components.adapters.storage import CorruptObject
from components.adapters.versioning import Git
from components.artifacts import FileRecord
from components.exchange import read_export
from model.errors import UserError
from pipelines.versions.release import check_can_release, made_by_run, record_experiment, release_data
from pipelines.versions.tags import fetch_artifacts, fetch_dataset, find_release
from tests.pipelines.versions.conftest import commit, lingbot

pytestmark = pytest.mark.slow


def test_an_experiment_is_a_commit_of_its_own(finished: Any) -> None:
    house, run_id, experiment = finished
    git = Git(house.root)
    assert (experiment.tag, experiment.new) == ("exp/first-v1", True)
    assert git.tags("*") == {} and set(git.tags("data/*")) == {"data/first-v1"}
    assert git.run("log", "--format=%s", "main") == "the house" and git.state().dirty is None
    assert git.run("worktree", "list").count("\n") == 0
    record = json.loads(git.file_at(experiment.commit, "release.json") or b"")
    assert record["run"] == run_id and record["threads"] == 1
    assert record["data"] == {"tag": "data/first-v1", "commit": git.resolve("data/first-v1")}
    assert list(record["steps"]) == [
        "collect", "validate", "annotate", "extract_depth_tokens", "pack", "pretrain", "finetune", "evaluate",
    ]  # fmt: skip
    files = record["steps"]["pack"]["files"]
    assert files["more/numbers.bin"]["size"] == 4096 and len(files["result.txt"]["sha256"]) == 64
    parameters = yaml.safe_load(git.file_at(experiment.commit, "params.yaml") or b"")
    assert parameters["pack"]["amount"] == 5 and parameters["preset"] == "demo" and parameters["seed"] == 7
    lock = yaml.safe_load(git.file_at(experiment.commit, "dvc.lock") or b"")
    assert set(lock["stages"]) == set(record["steps"])
    assert lock["stages"]["pack"]["params"]["params.yaml"]["pack"]["amount"] == 5
    assert find_release("exp/first-v1").record == record


def test_the_manifest_says_what_is_in_it(finished: Any) -> None:
    _, _, experiment = finished
    contents = experiment.record["contents"]
    assert (contents["episodes"], contents["usable"], contents["quarantined"], contents["hours"]) == (240, 238, 2, 0.61)


def test_quarantine_statistics_and_teacher_are_named(released, monkeypatch: pytest.MonkeyPatch) -> None:
    """On artefacts with the files of the real steps."""
    import hashlib

    from pipelines.versions.manifest import describe_data

    made = made_by_run("last").artifacts
    given = {
        "validate": ("quarantine.yaml", "- {episode: 4, rule: lag, evidence: 3 frames}\n"),
        "pack": ("statistics.json", "{}"),
        "extract_depth_tokens": ("store.json", '{"weights_digest": "w", "codec": "int8", "rows": 3}'),
    }
    artifacts = dict(made)
    for step, (name, text) in given.items():
        folder = records.data_folder(step, made[step].fingerprint)
        (folder / name).write_text(text)
        record = FileRecord(sha256=hashlib.sha256(text.encode()).hexdigest(), size=len(text))
        artifacts[step] = dataclasses.replace(made[step], files={**made[step].files, name: record})
    described = describe_data(artifacts)
    assert described["quarantine"] == [{"episode": 4, "rule": "lag"}]
    assert described["teacher"] == {"weights_digest": "w", "codec": "int8"}
    assert described["statistics_digest"] == hashlib.sha256(b"{}").hexdigest()


def test_the_same_data_is_released_once(finished: Any) -> None:
    _, run_id, _ = finished
    again = release_data("first", made_by_run(run_id))
    assert (again.tag, again.new) == ("data/first-v1", False)


def test_fetched_dataset_is_the_released_one(released) -> None:
    artifact = made_by_run("last").artifacts["collect"]
    records.invalidate("collect", artifact.fingerprint)
    folder = fetch_dataset("data/first-v1")
    assert folder == records.data_folder("collect", artifact.fingerprint)
    assert records.verify(artifact) == []
    assert Git(released.root).run("worktree", "list").count("\n") == 0


def test_a_flipped_byte_in_the_remote_is_caught(released) -> None:
    artifact = made_by_run("last").artifacts["collect"]
    records.invalidate("collect", artifact.fingerprint)
    for stored in (released.home / "dvc-remote").rglob("*"):
        if stored.is_file() and stored.stat().st_size == 4096:
            stored.chmod(0o644)
            stored.write_bytes(b"\1" + stored.read_bytes()[1:])
    with pytest.raises(UserError, match=r"'data/first-v1' cannot be .*dvc-remote: restore .* \(`dvc pull .*failed"):
        fetch_dataset("data/first-v1")
    assert not records.data_folder("collect", artifact.fingerprint).exists()
    assert list((released.home / "worktrees").iterdir()) == []


def test_bytes_that_dvc_accepts_and_the_record_does_not_are_caught(released, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.versions.tags

    real = pipelines.versions.tags.Dvc.run

    def pull_and_edit(self: Any, *arguments: str) -> str:
        said = real(self, *arguments)
        if arguments[0] == "pull":
            changed = self.root / "artifacts/collect/data/result.txt"
            changed.unlink()
            changed.write_text("another quarantine")
        return said

    monkeypatch.setattr(pipelines.versions.tags.Dvc, "run", pull_and_edit)
    with pytest.raises(CorruptObject, match=r"collect/result.txt is not the file that 'data/first-v1' released"):
        fetch_dataset("data/first-v1")


def test_an_edited_manifest_is_caught(released, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checksum is right and so are the files: only the release's record tells."""
    import pipelines.versions.tags

    real = pipelines.versions.tags.Dvc.run

    def pull_and_edit(self: Any, *arguments: str) -> str:
        said = real(self, *arguments)
        if arguments[0] == "pull":
            path = self.root / "artifacts/collect/manifest.json"
            artifact = dataclasses.replace(read_export(path.parent), digest="0" * 64)
            path.unlink()
            path.write_bytes(artifact.to_bytes())
        return said

    monkeypatch.setattr(pipelines.versions.tags.Dvc, "run", pull_and_edit)
    with pytest.raises(CorruptObject, match=r"collect/manifest.json is not the one that 'data/first-v1' released"):
        fetch_dataset("data/first-v1")


def test_a_changed_quarantine_is_caught(released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An episode back in, in the remote's copy of the verdict, under the name of the old bytes."""
    import pipelines.versions.tags

    release = find_release("exp/first-v1")
    real = pipelines.versions.tags.Dvc.run

    def pull_and_edit(self: Any, *arguments: str) -> str:
        said = real(self, *arguments)
        if arguments[0] == "pull":
            verdict = self.root / "artifacts/validate/data/result.txt"
            content = verdict.read_text()
            verdict.unlink()
            verdict.write_text(content.replace("validate 2", "validate 1"))
        return said

    monkeypatch.setattr(pipelines.versions.tags.Dvc, "run", pull_and_edit)
    with Git(released.root).worktree(release.commit, tmp_path / "tree") as tree:
        with pytest.raises(CorruptObject, match=r"validate/result.txt is not the file that 'exp/first-v1' released"):
            fetch_artifacts(release, tree.root, ["collect", "validate"])


def test_an_interrupted_fetch_leaves_nothing(released, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.versions.tags

    artifact = made_by_run("last").artifacts["collect"]
    records.invalidate("collect", artifact.fingerprint)
    real = pipelines.versions.tags.Dvc.run

    def interrupted(self: Any, *arguments: str) -> str:
        if arguments[0] == "pull":
            (self.root / "artifacts/collect/data").mkdir(parents=True)
            (self.root / "artifacts/collect/data/result.txt").write_text("hal")
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(pipelines.versions.tags.Dvc, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("data/first-v1")
    assert list((released.home / "worktrees").iterdir()) == []
    assert not records.data_folder("collect", artifact.fingerprint).exists()
    assert Git(released.root).run("worktree", "list").count("\n") == 0
    monkeypatch.setattr(pipelines.versions.tags.Dvc, "run", real)
    assert fetch_dataset("data/first-v1").exists(), "and the next fetch is whole"


HOLD = """
import time
from pipelines.versions.tags import apart
with apart("HEAD", "release") as tree:
    print(tree.root, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_and_nothing_of_one_that_lives(released) -> None:
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(
        command, cwd=released.root, env=released.environment, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        tree = Path(holder.stdout.readline().strip())
        try:
            fetch_dataset("data/first-v1")
            assert (tree / "dvc.yaml").exists(), "it goes on"
        finally:
            holder.kill()
    assert tree.exists()
    fetch_dataset("data/first-v1")
    assert list((released.home / "worktrees").iterdir()) == []
    assert Git(released.root).run("worktree", "list").count("\n") == 0


def test_a_missing_object_is_caught(released) -> None:
    for stored in (released.home / "dvc-remote").rglob("*"):
        if stored.is_file() and stored.stat().st_size == 4096:
            stored.unlink()
    with pytest.raises(UserError, match=r"`dvc pull .*failed"):
        fetch_dataset("data/first-v1")


def test_a_moved_tag_is_refused(released) -> None:
    git = Git(released.root)
    first = git.resolve("data/first-v1") or ""
    git.run("tag", "-f", "data/first-v1", "main")
    with pytest.raises(UserError, match=f"'data/first-v1' was moved from commit {first[:12]} to "):
        find_release("data/first-v1")
    with pytest.raises(UserError, match="'data/first-v1' that 'exp/first-v1' was made from was moved"):
        find_release("exp/first-v1")
    (released.home / "tags.json").unlink()  # as in another clone, where the tag was seen for the first time
    with pytest.raises(UserError, match="set by hand"):
        find_release("data/first-v1")
    git.run("tag", "-f", "-a", "data/first-v1", first, "-m", f"commit {first}")
    assert find_release("data/first-v1").commit == first
    git.run("tag", "-d", "data/first-v1")
    with pytest.raises(
        UserError, match="'exp/first-v1' was made from is gone: `git fetch --tags` brings it, or `git"
    ) as e:
        find_release("exp/first-v1")
    back = shlex.split(str(e.value).split("`")[3])
    assert back[0] == "git"
    git.run(*back[1:])
    assert find_release("data/first-v1").commit == first and find_release("exp/first-v1")


def test_a_moved_annotated_tag_is_refused_in_a_fresh_clone(released) -> None:
    git = Git(released.root)
    said = git.run("for-each-ref", "--format=%(contents)", "refs/tags/data/first-v1")
    git.run("tag", "-f", "-a", "data/first-v1", "exp/first-v1^{commit}", "-m", said)
    (released.home / "tags.json").unlink()
    with pytest.raises(UserError, match="was moved from commit"):
        find_release("data/first-v1")


def test_code_that_is_in_no_commit_is_refused(released) -> None:
    helper = released.root / "components/pack/helper.py"
    helper.write_text(helper.read_text() + "\nCHANGED = 1\n")
    assert release_data("first", made_by_run("last")).new is False, "the artefacts were made by the committed code"
    commit(released, "other code")
    with pytest.raises(UserError, match="'pack' was made by other code than that of HEAD: commit your changes"):
        release_data("other", made_by_run("last"))
    assert Git(released.root).tags("data/*").keys() == {"data/first-v1"}
    assert list((released.home / "worktrees").iterdir()) == []


def test_who_releases_is_asked_before_the_work(released, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("EMAIL", "")
    Git(released.root).run("config", "user.useConfigOnly", "true")  # or a host with a domain lets git guess
    made = made_by_run("last")
    for release in (lambda: check_can_release("other"), lambda: release_data("other", made)):
        with pytest.raises(UserError, match=r"git does not know who releases: `git config --global user.name NAME`"):
            release()
    assert not list((released.home / "worktrees").glob("*"))


def test_names_unknown_tags_and_unfinished_runs(released) -> None:
    with pytest.raises(UserError, match="'Cubes/1' cannot name a release"):
        release_data("Cubes/1", made_by_run("last"))
    with pytest.raises(UserError, match=r"unknown release 'data/frist-v1'.*Did you mean 'data/first-v1'"):
        find_release("data/frist-v1")
    evaluation = made_by_run("last").artifacts["evaluate"]
    records.invalidate("evaluate", evaluation.fingerprint)
    with pytest.raises(UserError, match="has no finished 'evaluate' here"):
        record_experiment("last", "first")


def test_an_interrupted_push_leaves_no_tag(released, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.versions.release

    real = pipelines.versions.release.Dvc.run

    def interrupted(self: Any, *arguments: str) -> str:
        if arguments[0] == "push":
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(pipelines.versions.release.Dvc, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        release_data("other", made_by_run("last"))
    assert "data/other-v1" not in Git(released.root).tags("data/*")
    assert list((released.home / "worktrees").iterdir()) == []


def test_ingested_data_is_added_and_has_no_stage(versioned, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "info").write_text("a dataset")
    released = lingbot(versioned, "data", "release", "given", "--dataset", str(tmp_path / "dataset"))
    assert released.returncode == 0, released.stdout + released.stderr
    assert "released data/given-v1" in released.stdout
    git = Git(versioned.root)
    record = find_release("data/given-v1").record
    assert list(record["steps"]) == ["ingest", "validate", "annotate", "extract_depth_tokens", "pack"]
    released_at = git.resolve("data/given-v1") or ""
    stages = yaml.safe_load(git.file_at(released_at, "dvc.yaml") or b"")["stages"]
    assert not {"collect", "ingest"} & set(stages) and stages["validate"]["deps"][0] == "artifacts/ingest"
    (added,) = yaml.safe_load(git.file_at(released_at, "artifacts/ingest.dvc") or b"")["outs"]
    assert added["path"] == "ingest" and added["md5"].endswith(".dir")
    records.invalidate("ingest", record["steps"]["ingest"]["fingerprint"])
    assert (fetch_dataset("data/given-v1") / "result.txt").exists()
    again = lingbot(versioned, "data", "release", "given", "--dataset", str(tmp_path / "dataset"))
    assert again.returncode == 0 and "data/given-v1 holds exactly this already" in again.stdout
