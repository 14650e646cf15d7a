"""Configuration of LingBot-Depth: backbone variants by name, and the `model_config` that a checkpoint carries.

Source: SPEC_DEPTH sections 1, 2 and 3.8.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model.depth.stack_config import StackConfig
from model.errors import UserError, unknown_name

logger = logging.getLogger(__name__)

PATCH = 14
POSITION_GRID = 37  # every backbone was trained at 518 px: 37 x 37 patches of 14
REGISTERS = 4
FIXTURE_PREFIX, FIXTURE_HEADS = "dinov2_tiny", 4  # backbones of parity fixtures: any size, 4 heads
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
FAR = 50.0  # metres; half of a scene beyond it is no robot's view (16-bit millimetres end at 65.5 m)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Shape of one vision transformer."""

    dim: int
    blocks: int
    heads: int
    ffn: Literal["mlp", "swiglu"] = "mlp"
    registers: int = 0
    grid: int = POSITION_GRID  # positions a side in the checkpoint's table

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim % self.heads:
            raise UserError(
                f"a depth backbone of width {self.dim} cannot have {self.heads} attention heads: "
                "set model_config.encoder.num_heads to a divisor of the width"
            )

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
            dim=size.dim, blocks=size.blocks, heads=size.heads, ffn=size.ffn, registers=REGISTERS
        )
    return variants


BACKBONES: dict[str, BackboneConfig] = _with_registers(
    {
        "dinov2_vits14": BackboneConfig(dim=384, blocks=12, heads=6),
        "dinov2_vitb14": BackboneConfig(dim=768, blocks=12, heads=12),
        "dinov2_vitl14": BackboneConfig(dim=1024, blocks=24, heads=16),
        "dinov2_vitl16": BackboneConfig(dim=1024, blocks=24, heads=16),  # its patch is 14 too
        "dinov2_vitg14": BackboneConfig(dim=1536, blocks=40, heads=24, ffn="swiglu"),
    }
)
# ours, for laptops: 4.7 ms a 112 px view on one core in fp32 (224 MFLOP); 3 blocks 6.8 ms, 4 blocks 9.3 ms
BACKBONES["demo"] = BackboneConfig(dim=192, blocks=2, heads=3)


@dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """What the encoder needs of a checkpoint's `model_config`.

    `measured` is the size of a backbone that is not in BACKBONES, read from its weights.
    """

    backbone: str
    dim_out: int
    intermediate_layers: int | tuple[int, ...] = 1
    remap_depth_in: Literal["linear", "log"] = "log"
    num_tokens_range: tuple[int, int] = (1200, 3600)
    measured: BackboneConfig | None = None

    def __post_init__(self) -> None:
        if self.measured is None and self.backbone not in BACKBONES:
            raise unknown_name("depth backbone", self.backbone, BACKBONES)
        blocks = self.size.blocks
        if self.remap_depth_in not in ("linear", "log"):
            raise UserError(f"model_config.remap_depth_in is '{self.remap_depth_in}': it must be 'linear' or 'log'")
        layers = self.layers
        if not layers or len(set(layers)) < len(layers) or not all(0 <= layer < blocks for layer in layers):
            raise UserError(
                f"model_config.encoder.intermediate_layers is {self.intermediate_layers}: "
                f"'{self.backbone}' has the blocks 0 to {blocks - 1}, each once"
            )
        low, high = self.num_tokens_range
        if not 0 < low <= high:
            raise UserError(f"model_config.num_tokens_range is [{low}, {high}]: it must be two rising counts of tokens")

    @property
    def size(self) -> BackboneConfig:
        return self.measured or BACKBONES[self.backbone]

    @property
    def layers(self) -> tuple[int, ...]:
        """Ascending block numbers whose outputs are projected; an int n means the last n blocks."""
        if isinstance(self.intermediate_layers, int):
            return tuple(range(self.size.blocks - self.intermediate_layers, self.size.blocks))
        return tuple(sorted(self.intermediate_layers))

    @classmethod
    def from_model_config(
        cls, model_config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> "DepthConfig":
        """Reads a checkpoint's `model_config`; `shapes` are those of its tensors, by their full names.

        Raises:
            UserError: a setting that this encoder does not implement, or an unknown backbone.
        """
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
        if not isinstance(layers, int) and not _integers(layers):
            raise UserError(
                f"model_config.encoder.intermediate_layers is {layers!r}: it must be a count or block numbers"
            )
        span = model_config.get("num_tokens_range", (1200, 3600))
        if not _integers(span) or len(span) != 2:
            raise UserError(f"model_config.num_tokens_range is {span!r}: it must be two rising counts of tokens")
        if not isinstance(encoder["dim_out"], int) or encoder["dim_out"] < 1:
            raise UserError(f"model_config.encoder.dim_out is {encoder['dim_out']!r}: it must be a number of channels")
        return cls(
            backbone=encoder["backbone"],
            dim_out=encoder["dim_out"],
            intermediate_layers=layers if isinstance(layers, int) else tuple(layers),
            remap_depth_in=model_config.get("remap_depth_in", "log"),
            num_tokens_range=(span[0], span[1]),
            measured=_measure(encoder, shapes),
        )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Neck and heads of a checkpoint's `model_config` (SPEC_DEPTH section 4)."""

    neck: StackConfig
    depth_head: StackConfig
    mask_head: StackConfig | None
    remap_depth_out: Literal["exp", "linear"]

    @classmethod
    def from_model_config(cls, model_config: Mapping[str, Any]) -> "DecoderConfig | None":
        """None for a checkpoint of the encoder alone. UserError for what the decoder does not implement."""
        present = [name for name in ("neck", "depth_head", "mask_head") if model_config.get(name) is not None]
        if not present:
            return None
        if not {"neck", "depth_head"} <= set(present):
            raise UserError(
                f"model_config has {' and '.join(present)}: depth maps need both 'neck' and 'depth_head', "
                "tokens alone need none of them"
            )
        remap = model_config.get("remap_depth_out", "exp")
        if remap not in ("exp", "linear"):
            raise UserError(f"model_config.remap_depth_out is '{remap}': it must be 'exp' or 'linear'")
        stacks = {name: StackConfig.read(f"model_config.{name}", model_config[name]) for name in present}
        return cls(mask_head=stacks.pop("mask_head", None), remap_depth_out=remap, **stacks)


def _integers(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, int) for item in value)


def _measure(encoder: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None) -> BackboneConfig | None:
    """Size of an unregistered backbone from its tensors; its heads, which no tensor tells, from `num_heads`."""
    name = encoder["backbone"]
    heads = encoder.get("num_heads", FIXTURE_HEADS if str(name).startswith(FIXTURE_PREFIX) else None)
    if name in BACKBONES or shapes is None:
        return None
    if heads is None:
        error = unknown_name("depth backbone", str(name), BACKBONES)
        raise UserError(f"{error} A backbone of your own needs model_config.encoder.num_heads")
    own = {key.removeprefix("encoder.backbone."): shape for key, shape in shapes.items()}
    blocks = {key.split(".")[1] for key in own if key.startswith("blocks.")}
    missing = [key for key in ("cls_token", "pos_embed") if len(own.get(key, ())) != 3]
    if missing or not blocks:
        raise UserError(
            f"the size of the depth backbone '{name}' cannot be read from its weights: they lack "
            f"{', '.join(f'encoder.backbone.{key}' for key in (missing or ['blocks.0']))}"
        )
    return BackboneConfig(
        dim=own["cls_token"][2],
        blocks=len(blocks),
        heads=heads,
        ffn="swiglu" if "blocks.0.mlp.w12.weight" in own else "mlp",
        registers=own["register_tokens"][1] if len(own.get("register_tokens", ())) == 3 else 0,
        grid=math.isqrt(max(own["pos_embed"][1] - 1, 1)),
    )
