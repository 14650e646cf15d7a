"""Configuration of LingBot-Depth: backbone variants by name, and the `model_config` that a checkpoint carries.

Source: SPEC_DEPTH sections 1, 2 and 3.8.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

PATCH = 14
POSITION_GRID = 37  # every backbone was trained at 518 px: 37 x 37 patches of 14
_KNOWN_KEYS = frozenset(
    (
        "encoder",
        "neck",
        "depth_head",
        "mask_head",
        "normal_head",
        "scale_head",
        "remap_output",
        "remap_depth_in",
        "remap_depth_out",
        "num_tokens_range",
    )
)
MIN_DEPTH = 0.01  # metres; at or below it a pixel has no return


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Shape of one vision transformer."""

    dim: int
    blocks: int
    heads: int
    ffn: Literal["mlp", "swiglu"] = "mlp"
    registers: int = 0

    @property
    def hidden(self) -> int:
        """Width inside the feed-forward layer (SwiGLU: two thirds of 4x, rounded up to a multiple of 8)."""
        return 4 * self.dim if self.ffn == "mlp" else (int(4 * self.dim * 2 / 3) + 7) // 8 * 8

    @property
    def antialias(self) -> bool:
        """The register variants shrink their position embedding with antialiasing, the others do not."""
        return self.registers > 0


def _with_registers(sizes: Mapping[str, BackboneConfig]) -> dict[str, BackboneConfig]:
    variants = dict(sizes)
    for name, size in sizes.items():
        variants[f"{name}_reg"] = BackboneConfig(
            dim=size.dim, blocks=size.blocks, heads=size.heads, ffn=size.ffn, registers=4
        )
    return variants


BACKBONES: dict[str, BackboneConfig] = _with_registers(
    {
        "dinov2_vits14": BackboneConfig(dim=384, blocks=12, heads=6),
        "dinov2_vitb14": BackboneConfig(dim=768, blocks=12, heads=12),
        "dinov2_vitl14": BackboneConfig(dim=1024, blocks=24, heads=16),
        "dinov2_vitl16": BackboneConfig(dim=1024, blocks=24, heads=16),  # its patch is 14 too
        "dinov2_vitg14": BackboneConfig(dim=1536, blocks=40, heads=24, ffn="swiglu"),
        # sizes of the parity fixtures
        "dinov2_tiny14": BackboneConfig(dim=64, blocks=4, heads=4),
        "dinov2_tinyg14": BackboneConfig(dim=64, blocks=4, heads=4, ffn="swiglu"),
    }
)
# ours, for laptops: 4.7 ms a 112 px view on one core in fp32 (224 MFLOP); 3 blocks 6.8 ms, 4 blocks 9.3 ms
BACKBONES["demo"] = BackboneConfig(dim=192, blocks=2, heads=3)


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """What the encoder needs of a checkpoint's `model_config`."""

    backbone: str
    dim_out: int
    intermediate_layers: int | tuple[int, ...] = 1
    remap_depth_in: Literal["linear", "log"] = "log"
    num_tokens_range: tuple[int, int] = (1200, 3600)

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise unknown_name("depth backbone", self.backbone, BACKBONES)
        blocks = BACKBONES[self.backbone].blocks
        if self.remap_depth_in not in ("linear", "log"):
            raise UserError(f"model_config.remap_depth_in is '{self.remap_depth_in}': it must be 'linear' or 'log'")
        if not self.layers or not all(0 <= layer < blocks for layer in self.layers):
            raise UserError(
                f"model_config.encoder.intermediate_layers is {self.intermediate_layers}: "
                f"'{self.backbone}' has the blocks 0 to {blocks - 1}"
            )

    @property
    def size(self) -> BackboneConfig:
        return BACKBONES[self.backbone]

    @property
    def layers(self) -> tuple[int, ...]:
        """Ascending block numbers whose outputs are projected; an int n means the last n blocks."""
        if isinstance(self.intermediate_layers, int):
            return tuple(range(self.size.blocks - self.intermediate_layers, self.size.blocks))
        return tuple(sorted(self.intermediate_layers))

    @classmethod
    def from_model_config(cls, model_config: Mapping[str, Any]) -> "DepthConfig":
        """Reads a checkpoint's `model_config`. UserError for a setting that this encoder does not implement."""
        encoder = model_config.get("encoder")
        if not isinstance(encoder, Mapping):
            raise UserError("model_config has no 'encoder' section: it is no LingBot-Depth checkpoint")
        needed = {"img_depth_fuse_mode": "cat_token", "depth_emb_mode": "conv_1c"}
        for key, value in needed.items():
            if encoder.get(key) != value:
                raise UserError(f"model_config.encoder.{key} is '{encoder.get(key, '')}': only '{value}' is supported")
        if encoder.get("img_mask_ratio", 0.0) != 0:
            raise UserError("model_config.encoder.img_mask_ratio must be 0: masked images are a training setting")
        if encoder.get("in_chans", 3) != 3:
            raise UserError(f"model_config.encoder.in_chans is {encoder['in_chans']}: only RGB (3) is supported")
        if encoder.get("ignore_layers"):
            raise UserError("model_config.encoder.ignore_layers must be empty: every encoder layer is read")
        for key in ("backbone", "dim_out", "intermediate_layers"):
            if key not in encoder:
                raise UserError(f"model_config.encoder.{key} is missing")
        for key in sorted(set(model_config) - _KNOWN_KEYS):
            logger.warning("model_config.%s is not known and is ignored", key)
        layers = encoder["intermediate_layers"]
        low, high = model_config.get("num_tokens_range", (1200, 3600))
        return cls(
            backbone=encoder["backbone"],
            dim_out=int(encoder["dim_out"]),
            intermediate_layers=layers if isinstance(layers, int) else tuple(layers),
            remap_depth_in=model_config.get("remap_depth_in", "log"),
            num_tokens_range=(int(low), int(high)),
        )
