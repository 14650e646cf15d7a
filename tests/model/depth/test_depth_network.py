"""The decoder: every kind of resampler and norm, and what `infer` returns. Its numbers are in test_depth_parity."""

import json
from typing import Any

import pytest
import torch

from model.depth.config import DecoderConfig, DepthConfig
from model.depth.network import LingBotDepth, points
from model.depth.stack import ACTIVATIONS, NORMS, RESAMPLERS, ConvStack
from model.depth.stack_config import ACTIVATIONS as ACTIVATION_NAMES
from model.depth.stack_config import COARSER, StackConfig
from model.depth.stack_config import NORMS as NORM_NAMES
from model.depth.stack_config import RESAMPLERS as RESAMPLER_NAMES
from model.errors import UserError
from tests.model.depth.own_depth_fixture import MODEL_CONFIG, SIZE, seeded_weights


def two_levels(**changes: Any) -> StackConfig:
    section = {"dim_in": [6, None], "dim_res_blocks": [64, 32], "dim_out": [None, 3], "resamplers": ["nearest"]}
    return StackConfig.read("model_config.neck", section | changes)


@pytest.fixture
def network() -> LingBotDepth:
    return build(MODEL_CONFIG)


def build(model_config: dict[str, Any]) -> LingBotDepth:
    decoder = DecoderConfig.from_model_config(model_config)
    assert decoder is not None
    weights = seeded_weights(model_config)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    network = LingBotDepth(DepthConfig.from_model_config(model_config, shapes), decoder)
    network.load_state_dict(weights)
    return network.eval()


def view() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(2, 3, 28, 42, generator=generator), 1 + torch.rand(2, 28, 42, generator=generator)


def test_every_kind_that_a_config_may_name_has_a_layer() -> None:
    assert tuple(RESAMPLERS) == tuple(RESAMPLER_NAMES)
    assert set(NORMS) == set(NORM_NAMES) and set(ACTIVATIONS) == set(ACTIVATION_NAMES)


@pytest.mark.parametrize("kind", RESAMPLER_NAMES)
def test_a_resampler_doubles_or_halves_the_map(kind: str) -> None:
    stack = ConvStack(two_levels(resamplers=kind))
    finer = (4, 6) if kind in COARSER else (16, 24)
    outputs = stack([torch.rand(2, 6, 8, 12), torch.rand(2, 32, *finer)])
    assert [tuple(output.shape) for output in outputs] == [(2, 64, 8, 12), (2, 3, *finer)]
    keys = {name.split(".")[2] for name in stack.state_dict() if name.startswith("resamplers.0.")}
    assert keys == {  # the positions that SPEC_DEPTH section 4 gives
        "conv_transpose": {"0", "1"}, "pixel_shuffle": {"0", "2"}, "avg_pool": {"0"}, "max_pool": {"0"},
    }.get(kind, {"1"})  # fmt: skip


@pytest.mark.parametrize("norm", NORM_NAMES)
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_a_block_is_a_residual_of_norms_activations_and_convolutions(norm: str, activation: str) -> None:
    torch.manual_seed(0)
    stack = ConvStack(
        two_levels(
            res_block_in_norm=norm, res_block_hidden_norm=norm, activation=activation, dim_times_res_block_hidden=2
        )
    )
    block = stack.res_blocks[0][0]
    x_BChw = 3 + 2 * torch.randn(2, 64, 5, 5)

    def normed(x: torch.Tensor) -> torch.Tensor:
        groups = {"layer_norm": 1, "group_norm": x.shape[1] // 32, "instance_norm": x.shape[1], "none": None}[norm]
        if groups is None:
            return x
        parts = x.unflatten(1, (groups, -1)).flatten(2)
        mean, spread = parts.mean(-1, keepdim=True), parts.var(-1, keepdim=True, unbiased=False)
        return ((parts - mean) / (spread + 1e-5).sqrt()).reshape(x.shape)

    def active(x: torch.Tensor) -> torch.Tensor:
        negative = {"relu": 0 * x, "leaky_relu": 0.2 * x, "elu": x.exp() - 1, "silu": x * x.sigmoid()}[activation]
        return torch.where(x > 0, x * x.sigmoid() if activation == "silu" else x, negative)

    wanted = block.layers[5](active(normed(block.layers[2](active(normed(x_BChw)))))) + x_BChw
    torch.testing.assert_close(block(x_BChw), wanted, rtol=1e-4, atol=1e-4)


def test_infer_masks_depth_and_points_and_drops_the_batch_axis_of_a_single_view(network: LingBotDepth) -> None:
    image, depth = view()
    _, probability = network(image, depth, grid=(2, 3), enable_depth_mask=True)
    assert network.mask_head is not None and probability is not None
    with torch.no_grad():  # half of the pixels on either side
        network.mask_head.output_blocks[4].bias.sub_(probability.logit().median())
    intrinsics = torch.tensor([[0.8, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]])
    result = network.infer(image, depth, num_tokens=6, intrinsics=intrinsics)
    bare = network.infer(image, depth, num_tokens=6, intrinsics=intrinsics, apply_mask=False)
    mask = result["mask"]
    assert mask.dtype == torch.bool and 0 < int(mask.sum()) < mask.numel()
    assert torch.equal(torch.isinf(result["depth"]), ~mask) and torch.isfinite(bare["depth"]).all()
    assert torch.equal(result["depth"][mask], bare["depth"][mask])
    assert torch.equal(torch.isinf(result["points"]).all(-1), ~mask)
    single = network.infer(image[1], depth[1], num_tokens=6, intrinsics=intrinsics)
    for name, tensor in single.items():
        assert tensor.shape == result[name][1].shape
    alone = network.infer(image[1], depth[1], num_tokens=6, apply_mask=False)["depth"]
    torch.testing.assert_close(alone, bare["depth"][1], rtol=1e-4, atol=1e-5)


def test_a_linear_output_is_the_logarithm_of_an_exponential_one(network: LingBotDepth) -> None:
    image, depth = view()
    linear = build({**MODEL_CONFIG, "remap_depth_out": "linear"}).infer(image, depth, num_tokens=6, apply_mask=False)
    wanted = network.infer(image, depth, num_tokens=6, apply_mask=False)
    torch.testing.assert_close(linear["depth"].exp(), wanted["depth"])


def test_without_a_mask_head_there_is_no_mask() -> None:
    config = {key: value for key, value in MODEL_CONFIG.items() if key != "mask_head"}
    assert set(build(config).infer(*view(), num_tokens=6)) == {"depth"}


def test_points_are_pixels_times_depth_over_the_focal_length() -> None:
    depth = torch.full((1, 4, 8), 2.0)
    intrinsics = torch.tensor([[[0.5, 0, 0.25], [0, 0.75, 0.5], [0, 0, 1]]])  # fx 4, fy 3, cx 2, cy 2 pixels
    wanted = torch.tensor([(6 - 2) / 4 * 2, (1 - 2) / 3 * 2, 2.0])
    torch.testing.assert_close(points(depth, intrinsics)[0, 1, 6], wanted)
    with pytest.raises(UserError, match=r"cx = 320: they look like pixels, divide the first row by the width \(8\)"):
        points(depth, torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]))
    with pytest.raises(UserError, match=r"intrinsics are \(2, 3, 3\): give \[3, 3\] or \[1, 3, 3\]"):
        points(depth, intrinsics.expand(2, 3, 3))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("neck", {"resampler": "nearest"}, "unknown key in model_config.neck 'resampler'.*Did you mean 'resamplers'"),
        ("neck", {"activation": "gelu"}, "unknown value of model_config.neck.activation 'gelu'.*Did you mean 'elu'"),
        ("neck", {"resamplers": ["nearest"]}, "neck.resamplers has 1 entries: 4 are needed"),
        ("neck", {"resamplers": "max_pool"}, "neck.resamplers has 'max_pool', which halves the map"),
        ("neck", {"dim_in": [40, 2, 2, 2, 2]}, r"neck takes \[40, 2, 2, 2, 2\] channels.*given \[38, 2, 2, 2, 2\]"),
        ("neck", {"res_block_in_norm": "group_norm"}, "'group_norm' at a level of 12 channels: it needs 32 channels"),
        ("mask_head", {"dim_out": [None, None, None, None, 3]}, "mask_head.dim_out ends with 3: a map has 1 channel"),
        ("encoder", {"dim_out": 8}, "encoder.dim_out is 8: the decoder adds the class token.*width 36"),
    ],
)
def test_a_decoder_that_does_not_fit_is_refused(section: str, changes: dict[str, Any], message: str) -> None:
    config = json.loads(json.dumps(MODEL_CONFIG))
    config[section] |= changes
    with pytest.raises(UserError, match=message):
        decoder = DecoderConfig.from_model_config(config)
        assert decoder is not None
        layers = {"dim_out": config["encoder"]["dim_out"], "measured": SIZE}
        LingBotDepth(DepthConfig(backbone="own", **layers), decoder)


def test_a_head_without_a_neck_is_refused() -> None:
    config = {key: value for key, value in MODEL_CONFIG.items() if key != "neck"}
    with pytest.raises(UserError, match="depth_head and mask_head: depth maps need both 'neck' and 'depth_head'"):
        DecoderConfig.from_model_config(config)
