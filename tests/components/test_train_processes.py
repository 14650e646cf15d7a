"""Trainings in processes of their own: what a rank does and answers, and what the step makes of it."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from components import state
from components.artifacts import SCRATCH
from components.launch import launching
from components.launch.launching import JobFailed
from components.launch.outcomes import Outcome
from components.steps import parameter_values
from components.train import pretrain, worker
from components.train.launched import WorkerSpec
from model.errors import UserError
from model.progress import Silent
from model.training.preemption import EXIT_PREEMPTED
from tests.components.training_inputs import training_inputs

PRETRAIN = pretrain.Parameters(
    preset="debug", horizon=6, steps=4, batch_size=4, draws=2, warmup_steps=1, save_every=2, precision="fp32"
)
ENDLESS = replace(PRETRAIN, steps=100_000, save_every=100_000)


class Asking(Silent):
    """SIGTERM arrives with the first figures."""

    def update(self, done: int, total: int, **figures: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return training_inputs(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def alone(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    pretrain.run(inputs, folder, replace(PRETRAIN, accumulate=2), Silent())
    return folder


def rank(inputs: dict[str, Path], output: Path, parameters: pretrain.Parameters) -> int:
    """A rank of a world of one, in this process: its exit code."""
    spec = WorkerSpec(
        step="pretrain",
        inputs={name: str(path) for name, path in inputs.items()},
        output=str(output),
        parameters=parameter_values(parameters),
        summary=str(output / "summary.json"),
        error=str(output / "error.json"),
    )
    state.write_json(output / "spec.json", vars(spec))
    return worker.main([str(output / "spec.json")])


def test_a_rank_alone_does_what_the_step_does(inputs: dict[str, Path], alone: Path, tmp_path: Path) -> None:
    assert rank(inputs, tmp_path, replace(PRETRAIN, accumulate=2)) == 0
    assert (tmp_path / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 4


def test_a_rank_that_is_asked_to_go_saves_and_says_so(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "open_progress", lambda step, run: Asking())
    assert rank(inputs, tmp_path, ENDLESS) == EXIT_PREEMPTED
    assert list(tmp_path.glob("checkpoints/step-*/.complete")) and not (tmp_path / "summary.json").exists()


def test_so_does_a_step_that_trains_in_its_own_process(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        pretrain.run(inputs, tmp_path, ENDLESS, Asking())
    assert ended.value.code == EXIT_PREEMPTED
    assert list(tmp_path.glob("checkpoints/step-*/.complete"))


def test_what_a_rank_finds_wrong_is_the_steps_own_error(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_rank(step: str, command: tuple[str, ...], **options: object) -> None:
        try:
            worker.main([command[-1]])
        except UserError:
            raise JobFailed(step, Outcome(kind="failed", message="rank 0 ended with 1", exit_code=1)) from None

    monkeypatch.setattr(launching, "run_job", one_rank)
    wrong = replace(PRETRAIN, processes=2, preset="demo")  # which takes larger frames
    with pytest.raises(UserError, match="^packed frames are 56 px, but policy 'demo' takes 112"):
        pretrain.run(inputs, tmp_path, wrong, Silent())


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["fsdp", "ddp"])
def test_two_processes_train_what_one_does_in_micro_batches(
    inputs: dict[str, Path], alone: Path, tmp_path: Path, strategy: str
) -> None:
    """The same slices and draws, so the same losses but for the order of sums; and a whole checkpoint."""
    parameters = replace(PRETRAIN, processes=2, strategy=strategy)  # type: ignore[arg-type]
    summary = pretrain.run(inputs, tmp_path, parameters, Silent())
    single, spread = ((folder / "metrics.jsonl").read_text() for folder in (alone, tmp_path))
    assert json.loads(spread)["total"] == pytest.approx(json.loads(single)["total"], rel=1e-3)
    assert summary["steps"] == 4 and summary["samples_per_second"] > 0
    one, two = (load_file(folder / "model.safetensors") for folder in (alone, tmp_path))
    assert {name: weight.shape for name, weight in one.items()} == {name: weight.shape for name, weight in two.items()}
    files = {path.name for path in tmp_path.iterdir()} - {SCRATCH}
    assert files == {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl", "training_data.json"}
