"""Reading LingBot-Depth checkpoints: both containers, both key names, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.depth.checkpoint import read_checkpoint
from model.depth.config import BACKBONES, BackboneConfig, DecoderConfig, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.depth.network import LingBotDepth
from model.errors import UserError
from tests.model.depth.own_depth_fixture import MODEL_CONFIG as WHOLE_CONFIG
from tests.model.depth.own_depth_fixture import seeded_weights

MODEL_CONFIG = {
    "encoder": {
        "backbone": "own_backbone",
        "num_heads": 2,
        "intermediate_layers": [1, 3],
        "dim_out": 32,
        "img_depth_fuse_mode": "cat_token",
        "depth_emb_mode": "conv_1c",
    },
    "remap_depth_in": "linear",
    "num_tokens_range": [12, 30],
}


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    size = BackboneConfig(dim=32, blocks=4, heads=2, grid=4)
    encoder = RGBDEncoder(DepthConfig(backbone="own", dim_out=32, intermediate_layers=(1, 3), measured=size))
    return {f"encoder.{name}": tensor.clone() for name, tensor in encoder.state_dict().items()}


def save(path: Path, weights: dict[str, torch.Tensor], config: dict[str, Any] = MODEL_CONFIG) -> Path:
    torch.save({"model_config": config, "model": weights}, path)
    return path


def features(path: Path) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    image, depth = torch.rand(3, 28, 28, generator=generator), torch.rand(28, 28, generator=generator)
    return read_checkpoint(path).encoder().infer_feat(image, depth, num_tokens=4, enable_depth_mask=False)[0]


def test_both_containers_and_both_depth_embed_names_give_the_same_features(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    published = {name.replace("depth_patch_embed", "depth_mask_patch_embed"): t for name, t in weights.items()}
    assert published.keys() != weights.keys()
    wanted = features(save(tmp_path / "model.pt", weights))
    assert torch.equal(features(save(tmp_path / "published.pt", published)), wanted)
    assert torch.equal(features(tmp_path), wanted), "a folder stands for the model.pt in it"
    (tmp_path / "inside").mkdir()
    save_file(published, tmp_path / "inside" / "a.safetensors", metadata={"model_config": json.dumps(MODEL_CONFIG)})
    assert torch.equal(features(tmp_path / "inside" / "a.safetensors"), wanted)
    save_file(weights, tmp_path / "inside" / "b.safetensors")
    (tmp_path / "inside" / "config.json").write_text(json.dumps(MODEL_CONFIG))
    assert torch.equal(features(tmp_path / "inside" / "b.safetensors"), wanted)


def test_a_tensor_under_both_names_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    name = "encoder.backbone.depth_patch_embed.proj.bias"
    both = weights | {name.replace("depth_patch", "depth_mask_patch"): torch.zeros(32)}
    with pytest.raises(UserError, match=f"holds '{name}' under two names: keep one"):
        read_checkpoint(save(tmp_path / "both.pt", both))


def test_only_the_heads_that_are_never_built_may_be_left_over(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    allowed = {"normal_head.a": torch.zeros(1), "scale_head.b": torch.zeros(1)}
    checkpoint = read_checkpoint(save(tmp_path / "model.pt", weights | allowed))
    assert checkpoint.unused == ("normal_head", "scale_head")
    assert checkpoint.config.layers == (1, 3) and checkpoint.config.remap_depth_in == "linear"
    for name in ("lm_head.weight", "neck.c", "encoder.backbone.rope.weight"):
        with pytest.raises(UserError, match=f"unexpected {name}; check model_config"):
            read_checkpoint(save(tmp_path / "extra.pt", weights | {name: torch.zeros(1)}))


def test_every_fault_of_the_tensors_is_listed_with_the_fix(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    faulty = {name: tensor for name, tensor in weights.items() if "depth_patch_embed" not in name}
    faulty |= {"encoder.backbone.cls_token": torch.zeros(1, 2, 32), "encoder.rope": torch.zeros(1)}
    with pytest.raises(UserError) as caught:
        read_checkpoint(save(tmp_path / "faulty.pt", faulty))
    message = str(caught.value)
    for part in (
        "faulty.pt does not hold what its model_config ('own_backbone') describes",
        "missing encoder.backbone.depth_patch_embed.proj.bias, encoder.backbone.depth_patch_embed.proj.weight",
        "unexpected encoder.rope",
        "misshaped encoder.backbone.cls_token (1, 2, 32) instead of (1, 1, 32)",
        "check model_config.encoder",
    ):
        assert part in message, message


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.backbone.norm.bias"][3] = torch.nan
    with pytest.raises(UserError, match="not finite in encoder.backbone.norm.bias: fetch or export it again"):
        read_checkpoint(save(tmp_path / "nan.pt", weights))


def test_encoder_neck_and_heads_of_one_file(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    whole = seeded_weights()
    checkpoint = read_checkpoint(save(tmp_path / "whole.pt", whole, WHOLE_CONFIG))
    assert {name: tuple(t.shape) for name, t in checkpoint.network().state_dict().items()} == {
        name: tuple(tensor.shape) for name, tensor in whole.items()
    }
    alone = checkpoint.encoder().state_dict()
    assert torch.equal(alone["backbone.pos_embed"], whole["encoder.backbone.pos_embed"])
    lost = {name: tensor for name, tensor in whole.items() if name != "mask_head.output_blocks.4.bias"}
    with pytest.raises(
        UserError, match="missing mask_head.output_blocks.4.bias; check model_config.neck and the heads"
    ):
        read_checkpoint(save(tmp_path / "lost.pt", lost, WHOLE_CONFIG))
    with pytest.raises(UserError, match="has no 'neck' and heads: depth maps need a whole checkpoint"):
        read_checkpoint(save(tmp_path / "encoder.pt", weights)).network()


def test_names_and_shapes_equal_the_released_vitl(shared: Path) -> None:
    reference = json.loads((shared / "reference" / "lingbot_depth_vitl_keys.json").read_text())
    config = reference["assumed_model_config"]
    decoder = DecoderConfig.from_model_config(config)
    assert decoder is not None
    with torch.device("meta"):
        network = LingBotDepth(DepthConfig.from_model_config(config), decoder)
    ours = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert ours == {name: entry["shape"] for name, entry in reference["state_dict"].items()}
    assert len(ours) == reference["n_keys"]


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14_reg", "dinov2_vitg14"])
def test_parameter_counts_of_the_whole_network(shared: Path, name: str) -> None:
    """The released code's counts, with the config that the reference assumes at each width."""
    reference = json.loads((shared / "reference" / "lingbot_depth_vitl_keys.json").read_text())
    wanted = reference["param_counts_all_variants"][name]
    text, width = json.dumps(reference["assumed_model_config"]), BACKBONES[name].dim
    config = json.loads(text.replace("1024", str(width)).replace("1026", str(width + 2)))
    config["encoder"]["backbone"] = name
    config["encoder"]["intermediate_layers"] = len(config["encoder"]["intermediate_layers"])
    decoder = DecoderConfig.from_model_config(config)
    assert decoder is not None
    with torch.device("meta"):
        network = LingBotDepth(DepthConfig.from_model_config(config), decoder)
    counts = {"total": sum(p.numel() for p in network.parameters()), "n_keys": len(network.state_dict())}
    for part in ("encoder", "neck", "depth_head", "mask_head"):
        counts[part] = sum(p.numel() for p in getattr(network, part).parameters())
    assert counts == {key: wanted[key] for key in counts}


def test_a_backbone_of_another_name_is_measured_but_for_its_heads(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    def read(**changes: object) -> DepthConfig:
        encoder = {key: value for key, value in {**MODEL_CONFIG["encoder"], **changes}.items() if value is not None}
        return read_checkpoint(save(tmp_path / "own.pt", weights, {**MODEL_CONFIG, "encoder": encoder})).config

    assert read().size == BackboneConfig(dim=32, blocks=4, heads=2, grid=4)
    assert read(backbone="dinov2_tiny14", num_heads=None).size.heads == 4, "the backbones of parity fixtures"
    with pytest.raises(UserError, match="unknown depth backbone 'dinov2_vits15'.*mean 'dinov2_vits14'.*num_heads"):
        read(backbone="dinov2_vits15", num_heads=None)
    with pytest.raises(UserError, match="width 32 cannot have 3 attention heads"):
        read(num_heads=3)
    with pytest.raises(UserError, match="misshaped encoder.backbone.blocks.0.attn.proj.bias .32,. instead of .384,."):
        read(backbone="dinov2_vits14", intermediate_layers=2)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("encoder", "dim_out", "wide", "dim_out is 'wide': it must be a number of channels"),
        ("encoder", "intermediate_layers", "all", "intermediate_layers is 'all': it must be a count or block numbers"),
        ("encoder", "img_mask_ratio", 0.5, "img_mask_ratio must be 0"),
        (None, "num_tokens_range", [30, 12], "num_tokens_range is .30, 12.: it must be two rising counts"),
        (None, "remap_depth_in", "sqrt", "remap_depth_in is 'sqrt'"),
        (None, "encoder", None, "model_config has no 'encoder' section"),
    ],
)
def test_a_config_that_cannot_be_is_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor], section: str | None, key: str, value: object, message: str
) -> None:
    config = json.loads(json.dumps(MODEL_CONFIG))
    (config if section is None else config[section])[key] = value
    with pytest.raises(UserError, match=message):
        read_checkpoint(save(tmp_path / "model.pt", weights, config))


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"depth checkpoint .*gone\.pt does not exist"):
        read_checkpoint(tmp_path / "gone.pt")
    with pytest.raises(UserError, match="holds neither model.pt nor model.safetensors"):
        read_checkpoint(tmp_path)
    (tmp_path / "text.pt").write_text("no weights here")
    with pytest.raises(UserError, match=r"is not a checkpoint that torch.load"):
        read_checkpoint(tmp_path / "text.pt")
    (tmp_path / "text.safetensors").write_text("no weights here")
    with pytest.raises(UserError, match="is not a safetensors file"):
        read_checkpoint(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    for content, said in ((b"{", "is not JSON"), (b'"\xff"', "is not JSON"), (b"[]", "model_config has no 'encoder'")):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_checkpoint(tmp_path / "a.safetensors")
    torch.save({"model_config": MODEL_CONFIG, "model": {"encoder.a": 1}}, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="'model' must be a dictionary of tensors"):
        read_checkpoint(tmp_path / "odd.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="must hold 'model_config' and 'model'"):
        read_checkpoint(tmp_path / "other.pt")


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    torch.save({"model_config": Payload(), "model": {}}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="weights_only=True"):
        read_checkpoint(tmp_path / "model.pt")
    assert not marker.exists()
