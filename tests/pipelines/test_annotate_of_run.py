"""`lingbot annotate` without a dataset: the data of a run on this machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import records, state
from model.data.annotations import ACCEPTED, write_annotations
from pipelines.cli import main
from tests.components.annotate.review.reviewing import Annotated, annotate
from tests.records_of_runs import run_record

RUN, UNFINISHED = "20261123-010000-aaaa", "20261123-020000-bbbb"
Said = Callable[[], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Annotated:
    return annotate(tmp_path_factory.mktemp("of_run"), episodes=6)


@pytest.fixture
def ran(made: Annotated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A finished run whose steps made that dataset and its annotations, in an own LINGBOT_HOME; in `tmp_path`."""
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    root = Path(made.dataset.root)
    steps = []
    for name, folder in (("collect", root), ("annotate", root.parent / "annotations")):
        link = records.data_folder(name, "f" * 64)
        link.parent.mkdir(parents=True)
        link.symlink_to(folder)
        steps.append({"name": name, "status": "done", "fingerprint": "f" * 64, "digest": "d" * 64})
    record = run_record(RUN, source="collect", steps=steps)
    state.write_json(state.run_folder(RUN) / "run.json", record)
    return record


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def printed() -> str:
        captured = capsys.readouterr()
        return captured.out + captured.err

    return printed


def annotate_command(*words: str) -> int:
    return main(["annotate", *words])


def test_every_command_takes_the_last_runs_data(ran: dict[str, Any], made: Annotated, said: Said) -> None:
    assert annotate_command("sample", "--output", "sample.json") == 0
    assert "18 segments that are least confident and 18 drawn at random from 18" in said(), "as many as there are"
    reviewed = [{**row, "review_state": ACCEPTED, "reviewer": "kim"} for row in made.rows]
    write_annotations(Path(), reviewed, "kim.parquet")
    write_annotations(Path(), [{**row, "reviewer": "lee"} for row in reviewed], "lee.parquet")

    assert annotate_command("errors", "sample.json", "kim.parquet") == 0
    assert "18 segments drawn at random from 18, 0 not reviewed yet" in said()
    assert annotate_command("agreement", "kim.parquet", "lee.parquet", "--consensus", "both.parquet") == 0
    assert "kim and lee: 6 episodes that both reviewed whole" in said()
    assert annotate_command("diversity", "--run", RUN) == 0
    assert "lift the red cube with the right arm" in said()
    assert annotate_command("checkpoints", "--output", "own.yaml") == 0
    assert "lift the red cube with the left arm (3 episodes)" in said()
    assert annotate_command("export", "--output", "studio", "--no-clips", "--video-url", "https://v/") == 0
    assert "6 episodes in studio/tasks.json: 0 accepted" in said()
    assert annotate_command("import", "studio/tasks.json", "--output", "ben.parquet") == 0
    assert "none was submitted in Label Studio: ben.parquet is not written" in said()


def test_a_file_alone_is_annotations_of_the_runs_dataset(ran: dict[str, Any], made: Annotated, said: Said) -> None:
    write_annotations(
        Path(), [{**row, "review_state": ACCEPTED} for row in made.rows if row["episode"] == 4], "a.parquet"
    )
    assert annotate_command("export", "a.parquet", "--output", "studio", "--no-clips", "--video-url", "https://v/") == 0
    assert "1 episodes in studio/tasks.json: 1 accepted" in said()
    assert [task["data"]["lingbot"]["episode"] for task in json.loads(Path("studio/tasks.json").read_text())] == [4]
    assert annotate_command("sample", "a.parquet", "--output", "sample.json") == 2
    assert "a.parquet has no segment that nobody has accepted" in said()


def test_runs_without_annotated_data_are_named(ran: dict[str, Any], said: Said) -> None:
    unfinished = {
        **ran,
        "id": UNFINISHED,
        "status": "failed",
        "steps": [ran["steps"][0], {"name": "annotate", "status": "pending"}],
    }
    state.write_json(state.run_folder(UNFINISHED) / "run.json", unfinished)
    for command in (["sample"], ["checkpoints"], ["export"]):
        assert (
            annotate_command(*command, "--output", f"{command[0]}.json" if command == ["sample"] else "own.yaml") == 2
        )
        assert f"run {UNFINISHED} has no finished step 'annotate' here" in said(), command
    assert annotate_command("sample", "--output", "sample.json", "--run", RUN) == 0
    said()
    assert annotate_command("export", "--run", "20261123-010000-aaab", "--output", "studio") == 2
    assert RUN in said(), "the nearest name"
    records.data_folder("annotate", "f" * 64).unlink()
    assert annotate_command("sample", "--output", "gone.json", "--run", RUN) == 2
    assert f"run {RUN} has no finished step 'annotate' here" in said(), "it was collected"


@pytest.mark.parametrize(
    "words",
    [
        ["export", "/data", "/annotations", "--output", "studio"],
        ["import", "/data", "project.json"],
        ["sample", "/annotations", "--output", "sample.json"],
    ],
)
def test_a_dataset_beside_a_run_is_refused(words: list[str], ran: dict[str, Any], said: Said) -> None:
    Path("project.json").write_text("[]")
    assert annotate_command(*words, "--run", RUN) == 2
    assert f"and --run is '{RUN}': give one of them" in said()


def test_annotations_of_another_dataset_are_refused(ran: dict[str, Any], made: Annotated, said: Said) -> None:
    longer = [{**row, "end": row["end"] + 100} if row["episode"] == 5 else row for row in made.rows]
    write_annotations(Path(), longer, "other.parquet")
    for words in (["checkpoints", "other.parquet"], ["diversity", "other.parquet"], ["export", "other.parquet"]):
        output = "own.yaml" if words[0] == "checkpoints" else "made"
        assert annotate_command(*words, "--output", output) == 2
        assert "other.parquet: episode 5 has a segment to frame 1" in said(), words
        assert not Path(output).exists()
    assert annotate_command("agreement", "other.parquet", "other.parquet") == 2
    assert "FIRST: episode 5 has a segment to frame" in said()
    assert annotate_command("sample", "other.parquet", "--output", "sample.json") == 0
    said()
    assert annotate_command("errors", "sample.json", str(records.data_folder("annotate", "f" * 64))) == 2
    assert "sample.json: episode 5 has a segment to frame" in said()


def test_an_export_of_label_studio_that_is_none_is_named(ran: dict[str, Any], said: Said) -> None:
    for text in ("{}", "[]", "[1]"):
        Path("project.json").write_text(text)
        assert annotate_command("import", "project.json", "--output", "ben.parquet") == 2
        assert "project.json: there is no list of tasks in it" in said(), text


def test_a_review_of_a_run_starts_from_its_annotations(
    ran: dict[str, Any], made: Annotated, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    from components.annotate.review import server

    addresses = []

    def stop_at_once(app: Any, listener: Any, announce: Callable[[str], None]) -> None:
        announce("http://here")
        addresses.append(listener.getsockname())
        listener.close()

    monkeypatch.setattr(server, "serve", stop_at_once)
    assert annotate_command("review", "--port", "0", "--reviewer", "kim") == 0
    assert f"review of run {RUN} by kim: 0 of 6 episodes accepted" in said() and addresses
    write_annotations(Path(), [{**row, "review_state": ACCEPTED} for row in made.rows], "all.parquet")
    assert annotate_command("review", "all.parquet", "--port", "0", "--output", "more.parquet") == 0
    assert "6 of 6 episodes accepted" in said()
