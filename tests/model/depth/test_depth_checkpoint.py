"""Reading LingBot-Depth checkpoints: both containers, both key names, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.depth.checkpoint import read_checkpoint
from model.depth.config import DepthConfig
from model.depth.encoder import RGBDEncoder
from model.errors import UserError

MODEL_CONFIG = {
    "encoder": {
        "backbone": "dinov2_tiny14",
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
    encoder = RGBDEncoder(DepthConfig.from_model_config(MODEL_CONFIG))
    return {f"encoder.{name}": tensor.clone() for name, tensor in encoder.state_dict().items()}


def save(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save({"model_config": MODEL_CONFIG, "model": weights}, path)
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


def test_decoder_and_heads_are_named_as_unused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    names = ("normal_head.a", "scale_head.b", "neck.c", "depth_head.d", "mask_head.e")
    extra = {name: torch.zeros(1) for name in names}
    checkpoint = read_checkpoint(save(tmp_path / "model.pt", weights | extra))
    assert checkpoint.unused == ("depth_head", "mask_head", "neck", "normal_head", "scale_head")
    assert checkpoint.config.layers == (1, 3) and checkpoint.config.remap_depth_in == "linear"


def test_a_missing_or_foreign_tensor_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    foreign = save(tmp_path / "foreign.pt", weights | {"lm_head.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"'lm_head.weight' belongs to no part of LingBot-Depth"):
        read_checkpoint(foreign)
    extra = save(tmp_path / "extra.pt", weights | {"encoder.backbone.rope.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"missing none, unexpected backbone.rope.weight"):
        read_checkpoint(extra).encoder()
    lost = {name: tensor for name, tensor in weights.items() if "depth_patch_embed" not in name}
    with pytest.raises(UserError, match=r"missing backbone.depth_patch_embed.proj.bias, backbone.depth_patch_embed"):
        read_checkpoint(save(tmp_path / "lost.pt", lost)).encoder()
    misshaped = weights | {"encoder.backbone.cls_token": torch.zeros(1, 1, 63)}
    with pytest.raises(UserError, match=r"encoder.backbone.cls_token has the shape \(1, 1, 63\)"):
        read_checkpoint(save(tmp_path / "misshaped.pt", misshaped)).encoder()


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
