"""Pretraining and fine-tuning as steps: from packed frames to a verified bundle."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from components.artifacts import SCRATCH
from components.train import finetune, pretrain
from model.bundle import load_bundle
from model.errors import UserError
from model.inference import Observation
from model.progress import Silent
from tests.components.training_inputs import training_inputs
from tests.model.data.demonstrations import TASKS, pack_memory

SMALL: Mapping[str, Any] = {"steps": 4, "batch_size": 2, "draws": 2, "warmup_steps": 1, "save_every": 2}
PRETRAIN = pretrain.Parameters(preset="debug", horizon=6, **SMALL)
FINETUNE = finetune.Parameters(task=TASKS[1], **SMALL)


class KilledAt:
    """Progress that ends the step at an update, as a kill would."""

    def __init__(self, done: int) -> None:
        self.done = done

    def update(self, done: int, total: int, **figures: float) -> None:
        if done >= self.done:
            raise KeyboardInterrupt

    def message(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return training_inputs(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def checkpoint(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    pretrain.run(inputs, folder, PRETRAIN, Silent())
    return folder


def digest(folder: Path) -> dict[str, bytes]:
    """The files that the harness takes: it leaves the scratch folder out."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and SCRATCH not in p.parts]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_pretraining_writes_weights_config_tokenizer_and_metrics_alone(checkpoint: Path) -> None:
    written = {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl", "training_data.json"}
    assert set(digest(checkpoint)) == written
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["policy"]["depth"] is None and config["policy"]["views"] == 3 and config["policy"]["horizon"] == 6


def test_a_dataset_without_depth_says_so(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = pretrain.run(inputs, tmp_path, PRETRAIN, Silent())
    assert summary["depth_alignment"] == "off: the dataset has no depth"
    assert summary["samples_per_second"] > 0 and 0 <= summary["data_wait"] <= 1


def test_equal_inputs_give_equal_bytes_also_after_a_kill(
    inputs: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    slow = PRETRAIN
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(inputs, tmp_path, slow, KilledAt(4))
    assert (tmp_path / "checkpoints").is_dir()
    summary = pretrain.run(inputs, tmp_path, slow, Silent())
    assert summary["steps"] == 2  # resumed from the checkpoint of step 2
    resumed, whole = load_file(tmp_path / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    assert resumed.keys() == whole.keys()
    assert digest(tmp_path)["model.safetensors"] == digest(checkpoint)["model.safetensors"]


def test_fine_tuning_exports_a_bundle_that_answers(inputs: dict[str, Path], checkpoint: Path, tmp_path: Path) -> None:
    summary = finetune.run({**inputs, "checkpoint": checkpoint}, tmp_path, FINETUNE, Silent())
    bundle = load_bundle(tmp_path / "bundle")
    assert summary["bundle_digest"] == bundle.digest
    assert summary["task"] == TASKS[1]
    assert bundle.contract["control_hz"] == 10.0
    assert bundle.preparation.statistics["observation.images.cam_high"].dim == 8 * 8 * 3  # for the endpoint's alarms
    observation = Observation(
        images={"cam_high": np.zeros((56, 56, 3), np.uint8)}, state=np.zeros(14, np.float32), task=TASKS[1]
    )
    assert bundle.infer([observation]).shape == (1, 6, 14)
    start = load_file(checkpoint / "model.safetensors")
    tuned = load_file(tmp_path / "bundle" / "model.safetensors")
    assert any((start[name] != tuned[name]).any() for name in start)


def test_an_unknown_task_is_answered_with_the_nearest(
    inputs: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    wrong = finetune.Parameters(task="lift the cube with the right arn", **SMALL)
    with pytest.raises(UserError, match="Did you mean 'lift the cube with the right arm'"):
        finetune.run({**inputs, "checkpoint": checkpoint}, tmp_path, wrong, Silent())


def test_frames_of_another_size_than_the_preset_are_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    pack_memory(tmp_path / "packed", image_size=28)
    with pytest.raises(UserError, match="packed frames are 28 px, but policy 'debug' takes 56: set pack.image_size=56"):
        pretrain.run({**inputs, "packed": tmp_path / "packed"}, tmp_path, PRETRAIN, Silent())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"state_dropout": 1.5}, "state_dropout is 1.5"),
        ({"replay": 1.0}, "replay is 1.0"),
        ({"bad_batches": -1}, "bad_batches is -1"),
        ({"backbone_rate": -0.1}, "backbone_rate is -0.1"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"accumulate": 3}, "batch_size is 32: it must divide into 3 equal parts"),
        ({"processes": 3, "batch_size": 30, "replicate": 2}, "replicate 2.*does not fit a world of 3 processes"),
        ({"lora_rank": -1}, "lora_rank is -1"),
    ],
)
def test_impossible_parameters_are_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        finetune.Parameters(**values)  # type: ignore[arg-type]


def test_every_figure_of_speed_is_logged_beside_the_artefact(checkpoint: Path) -> None:
    lines = [json.loads(line) for line in (checkpoint / SCRATCH / "speed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4]
    assert {"samples_per_second", "draws_per_second", "data_wait", "mfu", "memory_gib", "total"} <= lines[0].keys()
    assert "mfu" not in (checkpoint / "metrics.jsonl").read_text()


def test_adapters_are_trained_and_merged_into_the_bundle(
    inputs: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    parameters = replace(FINETUNE, lora_rank=2)
    finetune.run({**inputs, "checkpoint": checkpoint}, tmp_path, parameters, Silent())
    start = load_file(checkpoint / "model.safetensors")
    tuned = load_file(tmp_path / "bundle" / "model.safetensors")
    assert start.keys() == tuned.keys()
    changed = {name for name in start if (start[name] != tuned[name]).any()}
    assert changed and all(name.split(".")[-2].endswith("_proj") for name in changed)


def test_a_frozen_group_stays_as_it_was(inputs: dict[str, Path], checkpoint: Path, tmp_path: Path) -> None:
    finetune.run({**inputs, "checkpoint": checkpoint}, tmp_path, replace(FINETUNE, frozen=("backbone",)), Silent())
    start = load_file(checkpoint / "model.safetensors")
    tuned = load_file(tmp_path / "bundle" / "model.safetensors")
    changed = {name for name in start if (start[name] != tuned[name]).any()}
    assert changed and not [name for name in changed if name.startswith(("backbone.", "modalities.views."))]


def test_a_training_goes_on_with_other_means_but_not_with_other_aims(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(inputs, tmp_path, PRETRAIN, KilledAt(4))
    with pytest.raises(UserError, match=r"made with other settings \(schedule .*cosine.*linear"):
        pretrain.run(inputs, tmp_path, replace(PRETRAIN, schedule="linear"), Silent())
    summary = pretrain.run(inputs, tmp_path, replace(PRETRAIN, accumulate=2, bad_batches=1), Silent())
    assert summary["steps"] == 2
