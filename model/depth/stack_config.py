"""Configuration of one convolutional stack of the depth decoder, as `model_config` carries it.

Source: SPEC_DEPTH section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import UserError, unknown_name

ACTIVATIONS = ("relu", "leaky_relu", "silu", "elu")
NORMS = ("layer_norm", "group_norm", "instance_norm", "none")
COARSER = ("pixel_unshuffle", "avg_pool", "max_pool")  # these halve the map, the others double it
RESAMPLERS = ("conv_transpose", "bilinear", "nearest", "pixel_shuffle", *COARSER)
_SCALARS = ("dim_times_res_block_hidden", "res_block_in_norm", "res_block_hidden_norm", "activation")


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Shape of one stack; every tuple has an entry a level, `resamplers` one less."""

    dim_in: tuple[int | None, ...]
    dim_res_blocks: tuple[int, ...]
    dim_out: tuple[int | None, ...]
    resamplers: tuple[str, ...]
    num_res_blocks: tuple[int, ...]
    dim_times_res_block_hidden: int = 1
    res_block_in_norm: str = "layer_norm"
    res_block_hidden_norm: str = "group_norm"
    activation: str = "relu"

    @classmethod
    def read(cls, where: str, section: Any) -> "StackConfig":
        """One section of `model_config`, a value that is no list meaning every level; `where` names it in errors.

        Raises:
            UserError: a key or a kind that is not known, a list of the wrong length, or a width that cannot be normed.
        """
        if not isinstance(section, Mapping):
            raise UserError(f"{where} is {section!r}: it must be a section with dim_in, dim_res_blocks and the rest")
        for key in sorted(set(section) - set(cls.__dataclass_fields__)):
            raise unknown_name(f"key in {where}", key, cls.__dataclass_fields__)
        for key in ("dim_in", "dim_res_blocks", "dim_out", "resamplers"):
            if key not in section:
                raise UserError(f"{where}.{key} is missing")
        widths = section["dim_res_blocks"]
        if not _is_list(widths) or not widths or not all(isinstance(width, int) and width > 0 for width in widths):
            raise UserError(f"{where}.dim_res_blocks is {widths!r}: it must list the channels of each level")
        levels = len(widths)
        config = cls(
            dim_in=_per_level(where, "dim_in", section["dim_in"], levels),
            dim_res_blocks=tuple(widths),
            dim_out=_per_level(where, "dim_out", section["dim_out"], levels),
            resamplers=_per_level(where, "resamplers", section["resamplers"], levels - 1),
            num_res_blocks=_per_level(where, "num_res_blocks", section.get("num_res_blocks", 1), levels),
            **{key: section[key] for key in _SCALARS if key in section},
        )
        kinds = (
            ("activation", (config.activation,), ACTIVATIONS),
            ("resamplers", config.resamplers, RESAMPLERS),
            ("res_block_in_norm", (config.res_block_in_norm,), NORMS),
            ("res_block_hidden_norm", (config.res_block_hidden_norm,), NORMS),
        )
        for key, names, valid in kinds:
            for name in names:
                if name not in valid:
                    raise unknown_name(f"value of {where}.{key}", str(name), valid)
        config._check_groups(where)
        return config

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels that each level gives."""
        return tuple(dim or width for dim, width in zip(self.dim_out, self.dim_res_blocks, strict=True))

    def check_inputs(self, where: str, channels: tuple[int, ...]) -> None:
        """UserError unless each level takes the `channels` that it will be given."""
        taken = tuple(dim or width for dim, width in zip(self.dim_in, self.dim_res_blocks, strict=True))
        if taken != channels:
            raise UserError(f"{where} takes {list(taken)} channels, but its levels are given {list(channels)}")
        for kind in self.resamplers:
            if kind in COARSER:
                raise UserError(
                    f"{where}.resamplers has '{kind}', which halves the map: the levels of the decoder double"
                )

    def _check_groups(self, where: str) -> None:
        """A group norm has a group of every 32 channels, in the levels that have a block."""
        for width, blocks in zip(self.dim_res_blocks, self.num_res_blocks, strict=True):
            hidden = width * self.dim_times_res_block_hidden
            for key, kind, channels in (
                ("res_block_in_norm", self.res_block_in_norm, width),
                ("res_block_hidden_norm", self.res_block_hidden_norm, hidden),
            ):
                if blocks and kind == "group_norm" and (channels < 32 or channels % (channels // 32)):
                    raise UserError(
                        f"{where}.{key} is 'group_norm' at a level of {channels} channels: "
                        "it needs 32 channels a group, choose 'layer_norm' or wider levels"
                    )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _per_level(where: str, key: str, value: Any, levels: int) -> tuple[Any, ...]:
    if not _is_list(value):
        return (value,) * levels
    if len(value) != levels:
        raise UserError(f"{where}.{key} has {len(value)} entries: {levels} are needed, by dim_res_blocks")
    return tuple(value)
