"""The files that a comparison reads: from the state folder, and file by file from a release's remote."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import pipelines.versions.contents
from components import records, state
from components.adapters.storage import CorruptObject
from components.adapters.versioning import Git
from model.errors import UserError
from pipelines.cli import main
from pipelines.versions.contents import contents_of
from pipelines.versions.release import made_by_run

pytestmark = pytest.mark.slow


@pytest.fixture
def no_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Any, *arguments: str) -> str:
        raise AssertionError(f"dvc {arguments} for files that are here")

    monkeypatch.setattr(pipelines.versions.contents.Dvc, "run", refused)


def test_what_was_made_here_is_read_here(released: Any, no_pull: None) -> None:
    made = made_by_run("last").artifacts["pack"]
    here = records.data_folder("pack", made.fingerprint)
    assert contents_of("exp/first-v1").folder("pack", ["result.txt"]) == here
    assert contents_of("last").folder("pack", ["result.txt"]) == here
    assert contents_of("exp/first-v1").folder("promote", ["x"]) is None


def test_of_a_release_only_the_wanted_files_come(released: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(state.steps_folder())
    contents = contents_of("data/first-v1")
    folder = contents.folder("pack", ["more"])
    assert folder is not None and [path.name for path in folder.rglob("*") if path.is_file()] == ["numbers.bin"]
    assert Git(released.root).run("worktree", "list").count("\n") == 0
    monkeypatch.setattr(pipelines.versions.contents.Dvc, "run", lambda *given: pytest.fail("fetched twice"))
    assert contents.folder("pack", ["more"]) == folder


def test_a_flipped_byte_leaves_nothing(released: Any) -> None:
    shutil.rmtree(state.steps_folder())
    for stored in (released.home / "dvc-remote").rglob("*"):
        if stored.is_file() and stored.stat().st_size == 4096:
            stored.chmod(0o644)
            stored.write_bytes(b"\1" + stored.read_bytes()[1:])
    with pytest.raises(UserError, match=r"`dvc pull .*failed"):
        contents_of("data/first-v1").folder("pack", ["more"])
    assert not list((released.home / "releases").rglob("*.bin"))


def test_the_command_says_it_as_text_json_and_page(
    released: Any, no_pull: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", "last", "exp/first-v1", "--html", str(page)]) == 0
    assert "bitwise equal" in capsys.readouterr().out and "bitwise equal" in page.read_text()
    assert main(["compare", "last", "exp/first-v1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"]["trials"] is None


def test_a_run_that_did_not_end_can_be_compared(released: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_by_run("last").run or ""
    path = state.run_folder(run) / "run.json"
    record = json.loads(path.read_text())
    for entry in record["steps"][5:]:
        entry.pop("digest")
    path.write_text(json.dumps(record))
    assert main(["compare", "last", "exp/first-v1"]) == 0
    assert "only in one: evaluate, finetune, pretrain" in capsys.readouterr().out


def test_bytes_that_dvc_accepts_and_the_record_does_not_are_caught(
    released: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(state.steps_folder())
    real = pipelines.versions.contents.Dvc.run

    def pull_and_edit(self: Any, *arguments: str) -> str:
        said = real(self, *arguments)
        changed = self.root / "artifacts/pack/data/more/numbers.bin"
        changed.unlink()
        changed.write_bytes(bytes(4096))
        return said

    monkeypatch.setattr(pipelines.versions.contents.Dvc, "run", pull_and_edit)
    with pytest.raises(CorruptObject, match=r"pack/more/numbers.bin is not the file that 'data/first-v1' released"):
        contents_of("data/first-v1").folder("pack", ["more"])
    assert not list((released.home / "releases").rglob("*.bin"))
