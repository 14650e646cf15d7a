"""A later run takes what a person has accepted as it is, and annotates the rest anew."""

from pathlib import Path
from typing import Any

import pytest

from components.annotate import step
from model.data.annotations import ACCEPTED, read_annotations, write_annotations
from model.errors import UserError
from model.progress import Silent
from tests.components.annotate.chat_server import ChatServer, running
from tests.components.annotate.recordings import no_quarantine, write_picks

ANNA = {"review_state": ACCEPTED, "reviewer": "anna", "reviewed_at": "2026-11-23T01:02:03+00:00"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("reviewed")
    dataset = write_picks(root / "dataset", 4, cameras=("cam_high",))
    return {"dataset": dataset, "verdict": no_quarantine(root / "verdict")}


@pytest.fixture
def annotated(inputs: dict[str, Path], tmp_path: Path) -> list[dict[str, Any]]:
    """What the step writes of nobody's review."""
    step.run(inputs, tmp_path, step.Parameters(), Silent())
    return read_annotations(tmp_path)


@pytest.fixture
def reviewed(annotated: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    """Anna moved a cut of episode 1 and accepted a segment of it, accepted episode 2, and renamed one of episode 3."""
    rows = [dict(row) for row in annotated]
    first, second, third = (row for row in rows if row["episode"] == 1)
    first["end"] = second["start"] = first["end"] + 4
    second.update(ANNA, sub_task="grasp it", source="anna")
    for row in rows:
        if row["episode"] == 2:
            row.update(ANNA)
    next(row for row in rows if row["episode"] == 3)["sub_task"] = "not accepted yet"
    write_annotations(tmp_path, rows, "anna.parquet")
    return rows


def of(rows: list[dict[str, Any]], *episodes: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["episode"] in episodes]


def test_episodes_with_an_accepted_segment_stay_as_they_were_left(
    inputs: dict[str, Path], annotated: list[dict[str, Any]], reviewed: list[dict[str, Any]], tmp_path: Path
) -> None:
    given = step.Parameters(reviewed=str(tmp_path / "anna.parquet"), min_seconds=0.9)
    (tmp_path / "again").mkdir()
    summary = step.run(inputs, tmp_path / "again", given, Silent())
    rows = read_annotations(tmp_path / "again")
    assert of(rows, 1, 2) == of(reviewed, 1, 2) and summary["episodes_accepted"] == 2
    assert len(of(rows, 0, 3)) < len(of(annotated, 0, 3)), "cut anew, by the new parameter"
    assert not any(row["sub_task"] == "not accepted yet" for row in rows)


def test_a_model_is_not_asked_about_them(
    inputs: dict[str, Path], reviewed: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    (tmp_path / "again").mkdir()
    with running(ChatServer()) as server:
        given = step.Parameters(
            reviewed=str(tmp_path / "anna.parquet"), writer="endpoint", endpoint=server.url, model="qwen3-vl", frames=1
        )
        summary = step.run(inputs, tmp_path / "again", given, Silent())
    rows = read_annotations(tmp_path / "again")
    assert of(rows, 1, 2) == of(reviewed, 1, 2)
    assert {row["source"] for row in of(rows, 0, 3)} == {"qwen3-vl"}
    assert summary["requests"] == len(of(rows, 0, 3)) + 2, "a question a segment, and one an episode"


def test_an_episode_that_was_quarantined_since_is_left_out(
    inputs: dict[str, Path], reviewed: list[dict[str, Any]], tmp_path: Path
) -> None:
    verdict = tmp_path / "verdict"
    verdict.mkdir()
    (verdict / "quarantine.yaml").write_text("- {episode: 2, rule: frozen_frames, evidence: {}}\n")
    (tmp_path / "again").mkdir()
    given = step.Parameters(reviewed=str(tmp_path / "anna.parquet"))
    summary = step.run(inputs | {"verdict": verdict}, tmp_path / "again", given, Silent())
    assert {row["episode"] for row in read_annotations(tmp_path / "again")} == {0, 1, 3}
    assert summary["episodes_accepted"] == 1


def test_a_review_of_another_dataset_is_refused(
    inputs: dict[str, Path], reviewed: list[dict[str, Any]], tmp_path: Path
) -> None:
    write_annotations(tmp_path, [{**row, "episode": row["episode"] + 3} for row in reviewed], "other.parquet")
    path = tmp_path / "other.parquet"
    with pytest.raises(
        UserError, match=f"annotate.reviewed is '{path}': episode 4 has a segment to frame .* has 0 frames"
    ):
        step.run(inputs, tmp_path, step.Parameters(reviewed=str(path)), Silent())
