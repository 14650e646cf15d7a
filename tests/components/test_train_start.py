"""Pretraining that starts from another policy: its weights, sizes and tokenizer, and what cannot be a start."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.train import pretrain
from components.train.start import Start, find_start
from model.bundle import create_bundle, seeded_policy
from model.config import preset
from model.data.packed import PackedDataset
from model.data.seen import Seen
from model.data.text import InstructionTokenizer
from model.errors import UserError
from model.progress import Silent
from model.released.exporting import export_released
from model.released.importing import import_released
from tests.components.training_inputs import training_inputs
from tests.heard import Heard
from tests.model.data.demonstrations import TASKS

# One step of no size: what comes out is what went in.
STILL: Mapping[str, Any] = {"steps": 1, "batch_size": 2, "draws": 1, "warmup_steps": 0, "learning_rate": 1e-12}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return training_inputs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that went through the released layout."""
    folder = tmp_path_factory.mktemp("weights")
    export_released(create_bundle(folder / "bundle", seed=7).path, folder / "released")
    import_released(folder / "released", folder / "imported")
    return folder / "imported"


def test_the_weights_and_the_tokenizer_of_the_initial_checkpoint_are_taken(
    inputs: dict[str, Path], imported: Path, tmp_path: Path
) -> None:
    heard = Heard()
    parameters = pretrain.Parameters(preset="small", initial_checkpoint=str(imported), horizon=6, **STILL)
    pretrain.run(inputs, tmp_path, parameters, heard)
    before, after = load_file(imported / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in after)
    assert {name.split(".")[1] for name in before.keys() - after.keys()} == {"depth"}
    assert "not taken from the initial checkpoint, because it is switched off: depth" in heard.messages
    tokens = [
        InstructionTokenizer.load(folder / "tokenizer.json").encode(TASKS, 40)[0] for folder in (imported, tmp_path)
    ]
    assert (tokens[0] == tokens[1]).all()
    assert (tokens[0] != InstructionTokenizer.train(TASKS, 512).encode(TASKS, 40)[0]).any()


def test_what_a_checkpoint_was_trained_on_goes_on_with_it(inputs: dict[str, Path], tmp_path: Path) -> None:
    own = PackedDataset.open(inputs["packed"])
    for name in ("known", "silent"):
        create_bundle(tmp_path / name)
    Seen(unknown=("before",)).and_then("finetune", own, "gr1").write(tmp_path / "known")
    (tmp_path / "known" / "manifest.json").unlink()  # it is a pretraining's folder now
    known, silent = (find_start("debug", str(tmp_path / name), TASKS).seen for name in ("known", "silent"))
    assert known.unknown == ("before",) and known.sets[0].stages == ("initial finetune",)
    assert silent.sets == () and "does not say what it was trained on" in silent.unknown[0]
    assert find_start("debug", "", TASKS).seen == Seen()


def test_depth_tokens_of_another_shape_are_named() -> None:
    base = preset("debug")
    assert base.depth is not None
    fitted = replace(base, depth=replace(base.depth, table_size=24, target_tokens=24))
    start = Start(
        config=base, tokenizer=InstructionTokenizer.train(TASKS, 512), state=seeded_policy(base, 0).state_dict()
    )
    with pytest.raises(UserError, match=r"modalities.depth.table \[16, 32\], not \[24, 32\]. Extract tokens"):
        start.load(seeded_policy(fitted, 0), Silent())


def test_a_folder_that_is_no_start_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    parameters = pretrain.Parameters(initial_checkpoint=str(tmp_path), **STILL)
    with pytest.raises(UserError, match="has no config.json: give a bundle, a pretrained checkpoint"):
        pretrain.run(inputs, tmp_path / "output", parameters, Silent())
