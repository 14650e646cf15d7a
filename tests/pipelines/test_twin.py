"""The same run with depth alignment switched over is found by its data and parameters, and compared seed by seed."""

from pathlib import Path
from typing import Any

import pytest

from model.evaluation.records import Checkpoint, TrialRecord, write_trials
from model.evaluation.summary import closed_loop_figures
from pipelines.summary import summary_lines
from pipelines.twin import find_twin


def trial(seed: int, success: bool) -> TrialRecord:
    return TrialRecord(
        condition="policy", policy="policy", bundle_digest="d", task="lift_right", instruction="lift",
        robot="aloha_sim", seed=seed, outcome="success" if success else "failure", seconds=6.0, looks=6,
        reason=None if success else "time limit",
        checkpoints=(Checkpoint(name="held", seconds=2.0 if success else None),),
    )  # fmt: skip


def make_run(folder: Path, name: str, *, weight: float, solved: int, **changes: Any) -> dict[str, Any]:
    place = folder / name
    place.mkdir()
    trials = [trial(seed, seed < solved) for seed in range(10)]
    write_trials(place / "trials.jsonl", trials)
    values = {"packed": "p", "pretrain_seed": 0, "language": True, "trials": 10, **changes}
    steps = [
        {"name": "pack", "parameters": {}, "digest": values["packed"]},
        {"name": "pretrain", "parameters": {"depth_weight": weight, "seed": values["pretrain_seed"]}},
        {"name": "finetune", "parameters": {"seed": 0}},
        {
            "name": "evaluate", "parameters": {"trials": values["trials"], "language": values["language"]},
            "folder": str(place), "summary": closed_loop_figures(trials),
        },
    ]  # fmt: skip
    return {"id": name, "steps": steps, "served": None, "report": None, "seconds": 1.0}


def test_the_twin_is_the_run_that_differs_in_alignment_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, "aligned", weight=0.2, solved=8)
    twin = make_run(tmp_path, "plain", weight=0.0, solved=5, language=False)
    found = find_twin(run, [run, twin])
    assert found is not None
    assert (found["run"], found["aligned"], found["policy"]["sr"]) == ("plain", False, 0.5)
    assert found["paired"]["difference"] == pytest.approx(0.3)


@pytest.mark.parametrize("change", [{"packed": "q"}, {"pretrain_seed": 1}, {"trials": 20}])
def test_a_run_that_differs_in_more_is_no_twin(tmp_path: Path, change: dict[str, Any]) -> None:
    run = make_run(tmp_path, "aligned", weight=0.2, solved=8)
    assert find_twin(run, [make_run(tmp_path, "plain", weight=0.0, solved=5, **change)]) is None


def test_two_runs_with_alignment_are_no_twins(tmp_path: Path) -> None:
    run = make_run(tmp_path, "aligned", weight=0.2, solved=8)
    assert find_twin(run, [make_run(tmp_path, "other", weight=0.1, solved=5)]) is None


def test_the_summary_shows_it_beside_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "plain", weight=0.0, solved=5)
    run["twin"] = find_twin(run, [make_run(tmp_path, "aligned", weight=0.2, solved=8)])
    text = "\n".join(summary_lines({**run, "steps": [], "provenance": {"code": {"dirty": None}}}))
    assert "SR 80% [49, 94]: the same run with depth alignment (aligned)" in text
    assert "-30 points" in text
