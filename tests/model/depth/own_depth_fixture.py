"""A parity fixture of our own: seeded weights of a size that no other fixture has, outputs from the same code."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from model.depth.checkpoint import read_checkpoint
from model.depth.config import BackboneConfig, DecoderConfig, DepthConfig
from model.depth.matrices import at_precision
from model.depth.network import LingBotDepth
from model.depth.parity import BF16_SUFFIX, Run
from model.depth.parity_fixture import Fixture

SIZE = BackboneConfig(dim=36, blocks=3, heads=2, ffn="swiglu", registers=4, grid=5)
WIDTHS = [36, 32, 12, 8, 8]
STACK = {
    "dim_res_blocks": WIDTHS,
    "num_res_blocks": [0, 1, 1, 0, 0],
    "res_block_in_norm": "layer_norm",
    "res_block_hidden_norm": "instance_norm",
    "resamplers": ["pixel_shuffle", "nearest", "bilinear", "conv_transpose"],
    "activation": "elu",
}
HEAD: dict[str, Any] = {**STACK, "dim_in": WIDTHS, "dim_out": [None, None, None, None, 1]}
MODEL_CONFIG: dict[str, Any] = {
    "encoder": {
        "backbone": "own_backbone",
        "num_heads": SIZE.heads,
        "intermediate_layers": [0, 2],
        "dim_out": SIZE.dim,
        "img_depth_fuse_mode": "cat_token",
        "depth_emb_mode": "conv_1c",
    },
    "neck": {**STACK, "dim_in": [SIZE.dim + 2, 2, 2, 2, 2], "dim_out": None},
    "depth_head": HEAD,
    "mask_head": HEAD,
    "remap_depth_in": "log",
    "remap_depth_out": "exp",
    "num_tokens_range": [6, 24],
}
NAMES = (
    "features", "cls_token", "image14", "depth14", "seq.0", "layer0.tokens.0", "layer1.cls", "depth_reg", "mask_prob",
    "infer.depth", "infer.mask", "infer.points", f"features{BF16_SUFFIX}", f"cls{BF16_SUFFIX}",
)  # fmt: skip
CASES = ("wide_t6", "wide_lvl3", "wide1_t24_unbatched", "wide_t25")


def seeded_weights(model_config: dict[str, Any] = MODEL_CONFIG) -> dict[str, torch.Tensor]:
    """Tensors by their official names, all of them drawn, so that each of them matters."""
    encoder = model_config["encoder"]
    config = DepthConfig(
        backbone=encoder["backbone"],
        dim_out=encoder["dim_out"],
        intermediate_layers=tuple(encoder["intermediate_layers"]),
        measured=SIZE,
    )
    decoder = DecoderConfig.from_model_config(model_config)
    assert decoder is not None
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LingBotDepth(config, decoder).state_dict().items()}
    generator = torch.Generator().manual_seed(7)
    scale = {"encoder.image_std": 0.25}
    return {
        name: scale.get(name, 0.0) + 0.1 * torch.rand(shape, generator=generator)
        if name.startswith("encoder.image")
        else 0.3 * torch.randn(shape, generator=generator) / max(shape[1:].numel(), 1) ** 0.25
        for name, shape in shapes.items()
    }


def make_fixture(parent: Path) -> Path:
    """Writes `parent/inputs.safetensors` and the fixture `parent/own`; returns the latter."""
    folder = parent / "own"
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(3)
    depth = 3 * torch.rand(2, 30, 45, generator=generator)
    depth[0, :, :20] = 0
    depth[1, :9] = torch.nan
    intrinsics = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.3, 0.45], [0.0, 0.0, 1.0]]).expand(2, 3, 3).contiguous()
    image = torch.rand(2, 3, 30, 45, generator=generator)
    save_file({"wide.image": image, "wide.depth": depth, "wide.intrinsics": intrinsics}, parent / "inputs.safetensors")
    (folder / "config.json").write_text(json.dumps(MODEL_CONFIG))
    save_file(seeded_weights(), folder / "weights.safetensors")
    inputs = {"wide.image": image, "wide.depth": depth, "wide.intrinsics": intrinsics}
    fixture = Fixture(name="own", checkpoint=read_checkpoint(folder / "weights.safetensors"), inputs=inputs, outputs={})
    outputs = {}
    network = fixture.checkpoint.network()
    lowered = at_precision(network, "bf16")
    for name in CASES:
        for mode in ("mask", "nomask"):
            case = fixture.case(name, mode)
            assert case is not None
            for output in NAMES:
                used = lowered if output.endswith(BF16_SUFFIX) else network
                base = output.removesuffix(BF16_SUFFIX)
                value = Run(used.encoder, used, case).value("cls_token" if base == "cls" else base)
                assert value is not None, output
                value = value.to(torch.uint8) if value.dtype == torch.bool else value
                outputs[f"{name}.{mode}.{output}"] = value.clone().contiguous()
    save_file(outputs, folder / "outputs.safetensors")
    return folder
