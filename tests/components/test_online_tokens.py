"""Depth tokens computed while training: the step stores nothing, and pretraining aligns with them all the same."""

from pathlib import Path
from typing import Any

import pytest

from components.extract_depth_tokens import step
from components.train import pretrain
from model.errors import UserError
from model.progress import Silent
from tests.components.test_extract_depth_tokens import write_dataset
from tests.model.data.demonstrations import pack_memory
from tests.model.depth.test_depth_sources import save_depth_model


def parameters(depth_model: Path, **changes: Any) -> step.Parameters:
    values: dict[str, Any] = {
        "online": True, "depth_source": "monocular", "depth_model": str(depth_model), "image_size": 56,
        "num_tokens": 16, "aspect": "squash",
    }  # fmt: skip
    return step.Parameters(**(values | changes))


@pytest.fixture(scope="module")
def depth_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_depth_model(tmp_path_factory.mktemp("depth_model"))


def test_pretraining_aligns_and_nothing_is_stored(depth_model: Path, tmp_path: Path) -> None:
    verdict, tokens, output = tmp_path / "verdict", tmp_path / "tokens", tmp_path / "checkpoint"
    for folder in (verdict, tokens, output):
        folder.mkdir()
    (verdict / "quarantine.yaml").write_text("[]\n")
    inputs = {"dataset": write_dataset(tmp_path / "dataset"), "verdict": verdict}
    summary = step.extract_tokens(inputs, tokens, parameters(depth_model), Silent(), workers=1)
    assert summary["online"] and [path.name for path in tokens.iterdir()] == ["online.json"]
    pack_memory(tmp_path / "packed", image_size=56)
    trained = pretrain.run(
        {"packed": tmp_path / "packed", "tokens": tokens},
        output,
        pretrain.Parameters(preset="debug", horizon=6, steps=2, batch_size=2, draws=1, warmup_steps=1, save_every=2),
        Silent(),
    )
    assert trained["depth_alignment"] == "on" and 0 < trained["loss_depth"] < 10


def test_recorded_depth_is_refused() -> None:
    with pytest.raises(UserError, match="online is set with depth_source 'auto', but packed frames carry no recorded"):
        step.Parameters(online=True)
