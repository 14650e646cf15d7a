"""The RGB-D encoder against numbers produced by the released LingBot-Depth code."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.depth.checkpoint import read_checkpoint
from model.depth.config import BACKBONES, DepthConfig
from model.depth.encoder import RGBDEncoder, Trace
from model.errors import UserError

# case -> input, num_tokens, resolution level
CASES: dict[str, tuple[str, int | None, int]] = {
    "sq56_t16": ("sq56", 16, 9),
    "rect_t24": ("rect", 24, 9),
    "rect_lvl3": ("rect", None, 3),
    "up_t30": ("up", 30, 9),
    "vga_t256": ("vga", 256, 9),
    "vla224_t256": ("vla224", 256, 9),
    "sq56_t1369": ("sq56", 1369, 9),
    "rect1_unbatched": ("rect", 24, 9),
}
DECODER = re.compile(r"depth_reg|mask_prob|infer\.(depth|mask|points)")
FIXTURES = ("tiny", "tiny_reg_log")


def output(trace: Trace, registers: int, name: str) -> torch.Tensor:
    """The tensor of a trace that the fixture calls `name`."""
    simple = {"features": trace.features, "cls_token": trace.class_BD, "image14": trace.image, "depth14": trace.depth}
    if name in simple:
        return simple[name]
    if match := re.fullmatch(r"seq\.(\d+)", name):
        item = int(match[1])
        return trace.sequence_BLD[item][trace.kept_BL[item]]
    if match := re.fullmatch(r"layer(\d+)\.cls", name):
        return trace.layers_BLD[int(match[1])][:, 0]
    match = re.fullmatch(r"layer(\d+)\.tokens\.(\d+)", name)
    assert match, f"the fixture holds an output that this test does not know: {name}"
    layer, item = int(match[1]), int(match[2])
    return trace.layers_BLD[layer][item][trace.kept_BL[item]][1 + registers :]


@pytest.mark.parametrize("mode", ["nomask", "mask"])
@pytest.mark.parametrize("fixture", FIXTURES)
def test_every_encoder_output_equals_the_released_code(shared: Path, fixture: str, mode: str) -> None:
    folder = shared / "parity" / "depth"
    encoder = read_checkpoint(folder / fixture / "weights.safetensors").encoder()
    registers = encoder.config.size.registers
    inputs = load_file(folder / "inputs.safetensors")
    wanted = load_file(folder / fixture / "outputs.safetensors")
    compared = 0
    for case, (source, num_tokens, level) in CASES.items():
        names = [key.split(".", 2)[2] for key in wanted if key.startswith(f"{case}.{mode}.")]
        image, depth = inputs[f"{source}.image"], inputs[f"{source}.depth"]
        if case == "rect1_unbatched":
            image, depth = image[1], depth[1]
        grid = encoder.token_grid(image.shape[-2], image.shape[-1], num_tokens, level)
        trace = encoder.trace(
            image, depth, grid=grid, enable_depth_mask=mode == "mask", precision="fp32", all_tokens=True
        )
        features, cls_token = encoder.infer_feat(
            image, depth, num_tokens=num_tokens, resolution_level=level, enable_depth_mask=mode == "mask"
        )
        for name in names:
            if DECODER.fullmatch(name) or name.endswith("_autocast"):
                continue
            got, expected = output(trace, registers, name), wanted[f"{case}.{mode}.{name}"]
            excess = ((got - expected).abs() - 1e-4 * expected.abs()).max()
            assert got.shape == expected.shape and excess <= 1e-5, f"{case} {name}: {excess}"
            compared += 1
        if names:
            torch.testing.assert_close(features, wanted[f"{case}.{mode}.features"], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(cls_token, wanted[f"{case}.{mode}.cls_token"], rtol=1e-4, atol=1e-5)
    assert compared >= 25


@pytest.mark.parametrize("fixture", FIXTURES)
def test_bf16_follows_the_order_of_casts_of_the_teacher(shared: Path, fixture: str) -> None:
    folder = shared / "parity" / "depth"
    encoder = read_checkpoint(folder / fixture / "weights.safetensors").encoder()
    inputs = load_file(folder / "inputs.safetensors")
    wanted = load_file(folder / fixture / "outputs.safetensors")
    features, cls_token = encoder.infer_feat(
        inputs["vla224.image"], inputs["vla224.depth"], num_tokens=256, enable_depth_mask=False, precision="bf16"
    )
    for name, got in (("features", features), ("cls", cls_token)):
        expected = wanted[f"vla224_t256.nomask.{name}_cpu_bf16_autocast"].float()
        error = (got.float() - expected).norm() / expected.norm()
        assert error < 0.005, f"{name}: {error:.4f} relative L2"


def test_names_and_shapes_equal_the_released_vitl(shared: Path) -> None:
    reference = json.loads((shared / "reference" / "lingbot_depth_vitl_keys.json").read_text())
    with torch.device("meta"):
        encoder = RGBDEncoder(DepthConfig(backbone="dinov2_vitl14", dim_out=1024, intermediate_layers=(5, 11, 17, 23)))
    ours = {f"encoder.{name}": list(tensor.shape) for name, tensor in encoder.state_dict().items()}
    theirs = {name: entry["shape"] for name, entry in reference["state_dict"].items() if name.startswith("encoder.")}
    assert ours == theirs


# SPEC_DEPTH section 2
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dinov2_vits14", 22_132_224),
        ("dinov2_vitb14", 86_731_776),
        ("dinov2_vitl14", 304_570_368),
        ("dinov2_vitg14", 1_136_783_360),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    with torch.device("meta"):
        backbone = RGBDEncoder(DepthConfig(backbone=name, dim_out=8)).backbone
        registers = RGBDEncoder(DepthConfig(backbone=f"{name}_reg", dim_out=8)).backbone
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert sum(p.numel() for p in registers.parameters()) == parameters + 4 * BACKBONES[name].dim


@pytest.mark.parametrize("backbone", ["demo", "dinov2_tinyg14_reg"])
def test_flops_equal_the_counted_ones(backbone: str) -> None:
    with torch.device("meta"):
        encoder = RGBDEncoder(DepthConfig(backbone=backbone, dim_out=8, intermediate_layers=2))
    encoder = encoder.to_empty(device="cpu")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused kernel is not counted
        encoder.infer_feat(torch.zeros(3, 112, 112), torch.ones(112, 112), num_tokens=64, enable_depth_mask=False)
    assert encoder.flops(64) == counter.get_total_flops()


def test_token_grid_rounds_as_the_released_code() -> None:
    with torch.device("meta"):
        encoder = RGBDEncoder(DepthConfig(backbone="demo", dim_out=8))
    assert encoder.token_grid(224, 224, 256) == (16, 16)
    assert encoder.token_grid(480, 640, 256) == (14, 18)
    assert encoder.token_grid(480, 640) == encoder.token_grid(480, 640, 3600)


def test_shapes_that_do_not_fit_are_refused() -> None:
    encoder = RGBDEncoder(DepthConfig(backbone="demo", dim_out=8))
    with pytest.raises(UserError, match=r"image \(1, 3, 28, 28\) and depth \(1, 1, 14, 28\) do not fit"):
        encoder.infer_feat(torch.zeros(3, 28, 28), torch.zeros(14, 28), num_tokens=4, enable_depth_mask=False)


def test_unknown_backbone_and_settings_are_refused() -> None:
    with pytest.raises(UserError, match="unknown depth backbone 'dinov2_vitx14'.*Did you mean"):
        DepthConfig(backbone="dinov2_vitx14", dim_out=8)
    with pytest.raises(UserError, match="has the blocks 0 to 1"):
        DepthConfig(backbone="demo", dim_out=8, intermediate_layers=(0, 7))
    fused = {"encoder": {"img_depth_fuse_mode": "add", "depth_emb_mode": "conv_1c"}}
    with pytest.raises(UserError, match="img_depth_fuse_mode is 'add': only 'cat_token'"):
        DepthConfig.from_model_config(fused)
