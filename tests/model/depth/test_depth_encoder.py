"""The RGB-D encoder: batches, precisions and shapes. Its numbers are in test_depth_parity."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.depth.config import BACKBONES, BackboneConfig, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.depth.matrices import at_precision
from model.errors import UserError

TINY = BackboneConfig(dim=24, blocks=3, heads=3, grid=6)
TINY_SWIGLU = BackboneConfig(dim=24, blocks=3, heads=3, ffn="swiglu", registers=4, grid=6)


def seeded(size: BackboneConfig, remap: str = "linear") -> RGBDEncoder:
    torch.manual_seed(0)
    config = DepthConfig(backbone="own", dim_out=8, intermediate_layers=(0, 2), remap_depth_in=remap, measured=size)
    encoder = RGBDEncoder(config)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" not in name and parameter.ndim != 2:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder.eval().requires_grad_(False)


def views(height: int = 56, width: int = 84) -> tuple[torch.Tensor, torch.Tensor]:
    """Four views whose depth covers 24, 20, 12 and 1 of their 24 patches."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(4, 3, height, width, generator=generator)
    depth = 0.5 + torch.rand(4, height, width, generator=generator)
    depth[1, :28, 56:] = 0
    depth[2, :, 42:] = torch.nan
    depth[3] = torch.inf
    depth[3, 15, 15] = 2
    return image, depth


@pytest.mark.parametrize("size", [TINY, TINY_SWIGLU], ids=["mlp", "swiglu_reg"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_masked_batch_equals_its_views_one_by_one_without_their_masked_tokens(
    size: BackboneConfig, precision: str
) -> None:
    encoder = at_precision(seeded(size), precision)
    image, depth = views()
    features, class_token = encoder.infer_feat(image, depth, num_tokens=24, enable_depth_mask=True)
    first, end = 1 + size.registers, 1 + size.registers + 24
    lengths = []
    for item in range(4):
        trace = encoder.trace(image[item], depth[item], grid=(4, 6), enable_depth_mask=True, all_tokens=True)
        sequence_1LD = trace.sequence_BLD[:, trace.kept_BL[0]]  # a shorter sequence, and no mask
        lengths.append(sequence_1LD.shape[1] - end)
        with torch.inference_mode():
            layers = encoder.backbone(sequence_1LD, (0, 2), kept_BL=None, queries=None)
            maps = [layer[:, first:end].transpose(1, 2).unflatten(-1, (4, 6)) for layer in layers]
            alone = sum(
                projection(map_).float() for projection, map_ in zip(encoder.output_projections, maps, strict=True)
            )
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if precision == "fp32" else {"rtol": 0.02, "atol": 0.02}
        torch.testing.assert_close(features[item : item + 1], alone, **tolerance)
        torch.testing.assert_close(class_token[item : item + 1], layers[-1][:, 0], **tolerance)
    assert lengths == [24, 20, 12, 1]


def test_depth_of_masked_patches_does_not_matter_and_of_the_others_does() -> None:
    encoder = seeded(TINY)
    image, depth = views()

    def features(changed: torch.Tensor, mask: bool) -> torch.Tensor:
        return encoder.infer_feat(image, changed, num_tokens=24, enable_depth_mask=mask)[0]

    below = depth.clone()
    below[1, :28, 56:] = 0.009  # up to 1 cm is no return either
    assert torch.equal(features(below, True), features(depth, True))
    nearer = depth.clone()
    nearer[1, 30, 60] += 1
    assert not torch.equal(features(nearer, True), features(depth, True))
    assert (features(depth, False)[1:] - features(depth, True)[1:]).abs().amax((1, 2, 3)).min() > 1e-3


def test_a_metre_counts_as_invalid_under_log_and_200_metres_under_linear() -> None:
    """As in the released code: ln(1 m) is the mark of an invalid pixel (SPEC_DEPTH section 3.7)."""
    depth = torch.zeros(1, 1, 14, 42)
    depth[..., :14], depth[..., 14:28], depth[..., 28:] = 1.0, 201.0, 0.5
    for remap, wanted in (("log", [False, True, True]), ("linear", [True, False, True])):
        encoder = seeded(TINY, remap)
        _, remapped = encoder.prepare(torch.zeros(1, 3, 14, 42), depth, 1, 3)
        assert encoder.kept_tokens(remapped)[0, 4:].tolist() == wanted


@pytest.mark.parametrize("size", [TINY, TINY_SWIGLU], ids=["mlp", "swiglu_reg"])
@pytest.mark.parametrize("mask", [False, True])
def test_bf16_is_bitwise_what_autocast_computes(size: BackboneConfig, mask: bool) -> None:
    """The teacher ran under autocast; all of its casts are explicit here but the last sum, which CUDA makes in fp32."""
    encoder = seeded(size)
    image, depth = views()
    settings = {"grid": (4, 6), "enable_depth_mask": mask, "all_tokens": True}
    explicit = at_precision(encoder, "bf16").trace(image, depth, **settings)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = encoder.trace(image, depth, **settings)
    assert torch.equal(explicit.sequence_BLD, autocast.sequence_BLD)
    for ours, theirs in zip(explicit.layers_BLD, autocast.layers_BLD, strict=True):
        assert ours.dtype == theirs.dtype == torch.float32 and torch.equal(ours, theirs)
    fp32 = encoder.trace(image, depth, **settings)
    error = (explicit.features - fp32.features).norm() / fp32.features.norm()
    assert 1e-4 < error < 0.02 and explicit.features.dtype == torch.float32, error


def test_the_bf16_twin_leaves_the_encoder_in_fp32() -> None:
    encoder = seeded(TINY)
    twin = at_precision(encoder, "bf16")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert twin.backbone.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    assert twin.backbone.pos_embed.dtype == twin.backbone.norm.weight.dtype == torch.float32
    assert at_precision(encoder, "fp32") is encoder
    with pytest.raises(UserError, match="unknown precision 'fp16'.*Did you mean"):
        at_precision(encoder, "fp16")


def test_an_int_of_layers_means_the_last_ones() -> None:
    def layers(value: int | tuple[int, ...]) -> tuple[int, ...]:
        return DepthConfig(backbone="dinov2_vits14", dim_out=8, intermediate_layers=value).layers

    assert layers(3) == (9, 10, 11) and layers((11, 2)) == (2, 11)
    for wrong in (0, 13, (), (2, 2), (12,), (-1,)):
        with pytest.raises(UserError, match="has the blocks 0 to 11, each once"):
            layers(wrong)


# SPEC_DEPTH section 2
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dinov2_vits14", 22_132_224),
        ("dinov2_vitb14", 86_731_776),
        ("dinov2_vitl14", 304_570_368),
        ("dinov2_vitl16", 304_570_368),
        ("dinov2_vitg14", 1_136_783_360),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    with torch.device("meta"):
        backbone = RGBDEncoder(DepthConfig(backbone=name, dim_out=8)).backbone
        registers = RGBDEncoder(DepthConfig(backbone=f"{name}_reg", dim_out=8)).backbone
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert sum(p.numel() for p in registers.parameters()) == parameters + 4 * BACKBONES[name].dim


@pytest.mark.parametrize("size", [BACKBONES["demo"], TINY_SWIGLU], ids=["demo", "swiglu_reg"])
def test_flops_equal_the_counted_ones(size: BackboneConfig) -> None:
    encoder = RGBDEncoder(DepthConfig(backbone="own", dim_out=8, intermediate_layers=2, measured=size))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused kernel is not counted
        encoder.infer_feat(torch.zeros(3, 112, 112), torch.ones(112, 112), num_tokens=64, enable_depth_mask=False)
    assert encoder.flops(64) == counter.get_total_flops()


def test_token_grid_rounds_as_the_released_code() -> None:
    with torch.device("meta"):
        encoder = RGBDEncoder(DepthConfig(backbone="demo", dim_out=8))
    assert encoder.token_grid(224, 224, 256) == (16, 16)
    assert encoder.token_grid(480, 640, 256) == (14, 18)
    assert encoder.token_grid(480, 640) == encoder.token_grid(480, 640, 3600)


def test_unknown_backbone_and_settings_are_refused() -> None:
    with pytest.raises(UserError, match="unknown depth backbone 'dinov2_vitx14'.*Did you mean"):
        DepthConfig(backbone="dinov2_vitx14", dim_out=8)
    with pytest.raises(UserError, match="has the blocks 0 to 1"):
        DepthConfig(backbone="demo", dim_out=8, intermediate_layers=(0, 7))
    fused = {"encoder": {"img_depth_fuse_mode": "add", "depth_emb_mode": "conv_1c"}}
    with pytest.raises(UserError, match="img_depth_fuse_mode is 'add': only 'cat_token'"):
        DepthConfig.from_model_config(fused)
