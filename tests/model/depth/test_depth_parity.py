"""The parity command: it agrees with the released code, and it fails whenever it should."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.depth.parity import BF16_SUFFIX, main
from tests.model.depth.own_depth_fixture import CASES, NAMES, make_fixture

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fixture(tmp_path_factory.mktemp("parity"))


@pytest.fixture
def fixture(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    for path in (made.parent / "inputs.safetensors", *made.iterdir()):
        target = tmp_path / path.relative_to(made.parent)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path / "own"


def change(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def keep_only(prefix: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if not name.startswith(prefix)]:
            del tensors[name]

    return edit


@pytest.mark.parametrize("fixture_name", ["tiny", "tiny_reg_log"])
def test_every_output_of_the_released_code_is_met(
    shared: Path, fixture_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "parity" / "depth" / fixture_name
    code = main([str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, [line for line in lines if not line.startswith("ok")]
    count = len(load_file(folder / "outputs.safetensors"))
    assert lines[-1] == f"{count} outputs compared, 0 missed, 0 unknown" and count > 80


def test_a_fixture_of_another_size_passes_as_a_command(made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "model.depth.parity", str(made)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{2 * len(CASES) * len(NAMES)} outputs compared, 0 missed, 0 unknown"
    assert done.stdout.count("relative L2 0.00e+00 (at most 0.01)") == 4 * len(CASES)


def test_a_folder_of_fixtures_runs_each(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(made.parent)]) == 0
    assert f"{2 * len(CASES) * len(NAMES)} outputs compared" in capsys.readouterr().out


def tensor_names() -> list[str]:
    """One of every part; the class token alone would not reach the features of layer 0."""
    return [
        "encoder.backbone.pos_embed",
        "encoder.backbone.register_tokens",
        "encoder.backbone.depth_patch_embed.proj.weight",
        "encoder.backbone.blocks.1.mlp.w3.weight",
        "encoder.backbone.blocks.2.ls2.gamma",
        "encoder.output_projections.1.bias",
        "neck.resamplers.0.2.weight",
        "depth_head.res_blocks.1.0.layers.0.weight",
        "mask_head.output_blocks.4.bias",
    ]


@pytest.mark.parametrize("name", tensor_names())
def test_a_tampered_weight_fails(fixture: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name] * 1.01

    change(fixture / "weights.safetensors", edit)
    change(fixture / "outputs.safetensors", keep_only("wide_t6.mask."))
    for output in ("features", "cls"):  # the second precision is not needed to see it
        change(fixture / "outputs.safetensors", lambda t: t.pop(f"wide_t6.mask.{output}{BF16_SUFFIX}"))  # noqa: B023
    assert main([str(fixture)]) == 1
    assert "MISS" in capsys.readouterr().out


def test_an_output_of_another_shape_is_a_miss(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(fixture / "outputs.safetensors", keep_only("wide_t6.mask.cls_token"))
    change(fixture / "outputs.safetensors", lambda t: t.update({k: v[:1].clone() for k, v in t.items()}))
    assert main([str(fixture)]) == 1
    assert "shape (2, 36), the fixture has (1, 36)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "key", ["wide_t6.mask.normals", "wide_t6.mask.layer7.cls", "wide_t6.mask.seq.5", "wide_t6.half.features", "odd"]
)
def test_an_output_that_is_not_known_fails(fixture: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(fixture / "outputs.safetensors", keep_only("wide_t6.nomask.features"))
    change(fixture / "outputs.safetensors", lambda tensors: tensors.update({key: torch.zeros(3)}))
    assert main([str(fixture)]) == 1
    out = capsys.readouterr().out
    assert f"UNKNOWN own {key}" in out and out.splitlines()[-1] == "2 outputs compared, 0 missed, 1 unknown"


def test_nothing_to_compare_fails(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(fixture / "outputs.safetensors", keep_only("no such case"))
    assert main([str(fixture)]) == 1
    assert "nothing was compared" in capsys.readouterr().err


def test_a_wrong_mask_far_from_the_threshold_is_a_miss(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        keep_only("wide_t6.mask.infer.mask")(tensors)
        (mask,) = tensors.values()
        mask[0, 0, 0] = 1 - mask[0, 0, 0]

    change(fixture / "outputs.safetensors", edit)
    assert main([str(fixture)]) == 1
    assert "largest difference 1.00e+00" in capsys.readouterr().out


def test_heads_that_no_tensor_tells_come_from_the_config_or_the_command(
    fixture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((fixture / "config.json").read_text())
    heads = config["encoder"].pop("num_heads")
    (fixture / "config.json").write_text(json.dumps(config))
    change(fixture / "outputs.safetensors", keep_only("wide_t6."))
    assert main([str(fixture)]) == 1
    assert "unknown depth backbone 'own_backbone'" in capsys.readouterr().err
    assert main([str(fixture), "--num-heads", str(heads)]) == 0
    assert main([str(fixture), "--num-heads", "3"]) == 1, "another number of heads gives other numbers"


def test_a_missing_file_is_named(fixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fixture.parent / "inputs.safetensors").unlink()
    assert main([str(fixture)]) == 1
    assert "inputs.safetensors does not exist" in capsys.readouterr().err
