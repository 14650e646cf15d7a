"""Reads a LingBot-Depth checkpoint: `model.pt` as released, or safetensors, with the config that came with it.

Source: SPEC_DEPTH section 1. The released loader drops what does not match; this one refuses, because a dropped depth
patch embedding leaves random weights and changes the features by about half (section 1.1).
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.depth.config import DepthConfig
from model.depth.encoder import RGBDEncoder
from model.errors import UserError

NEVER_BUILT = ("normal_head.", "scale_head.")  # accepted by the released code, built by none
DECODER = ("neck.", "depth_head.", "mask_head.")  # for depth maps; the tokens do not need them
RENAMED = ("encoder.backbone.depth_mask_patch_embed.", "encoder.backbone.depth_patch_embed.")


@dataclass(frozen=True, kw_only=True)
class DepthCheckpoint:
    """Configuration and encoder tensors of one file, and the tensor groups that were left unused."""

    path: Path
    config: DepthConfig
    model_config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]  # names of RGBDEncoder
    unused: tuple[str, ...]  # prefixes present in the file that the encoder does not need

    def encoder(self) -> RGBDEncoder:
        """The encoder with these weights in fp32, frozen. UserError when a tensor is missing, extra or misshaped."""
        with torch.device("meta"):
            encoder = RGBDEncoder(self.config)
        wanted = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        missing, extra = sorted(wanted.keys() - self.tensors.keys()), sorted(self.tensors.keys() - wanted.keys())
        if missing or extra:
            raise UserError(
                f"{self.path} does not hold a '{self.config.backbone}' encoder: missing {_some(missing)}, "
                f"unexpected {_some(extra)}; check model_config.encoder"
            )
        for name, shape in wanted.items():
            if tuple(self.tensors[name].shape) != shape:
                raise UserError(
                    f"{self.path}: encoder.{name} has the shape {tuple(self.tensors[name].shape)}, "
                    f"'{self.config.backbone}' needs {shape}"
                )
        encoder.load_state_dict({name: tensor.float() for name, tensor in self.tensors.items()}, assign=True)
        return encoder.eval().requires_grad_(False)


def read_checkpoint(path: str | Path) -> DepthCheckpoint:
    """Reads `model.pt` or a safetensors file; a folder means the `model.pt` or `model.safetensors` in it.

    A safetensors file carries its config as JSON in the metadata key `model_config` or in `config.json` beside it.
    UserError when the file is missing, is no checkpoint, or holds tensors that no part of LingBot-Depth has.
    """
    path = _file(Path(path))
    model_config, tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    encoder: dict[str, Tensor] = {}
    unused: set[str] = set()
    for name, tensor in tensors.items():
        group = next((prefix for prefix in (*NEVER_BUILT, *DECODER) if name.startswith(prefix)), None)
        if group is not None:
            unused.add(group.rstrip("."))
        elif name.startswith("encoder."):
            encoder[name.replace(*RENAMED).removeprefix("encoder.")] = tensor
        else:
            raise UserError(f"{path}: '{name}' belongs to no part of LingBot-Depth (encoder, neck, heads)")
    return DepthCheckpoint(
        path=path,
        config=DepthConfig.from_model_config(model_config),
        model_config=model_config,
        tensors=encoder,
        unused=tuple(sorted(unused)),
    )


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in ("model.pt", "model.safetensors"):
            if (path / name).is_file():
                return path / name
        raise UserError(f"{path} holds neither model.pt nor model.safetensors: give the checkpoint file itself")
    if not path.is_file():
        raise UserError(f"depth checkpoint {path} does not exist: give the path of model.pt or a safetensors file")
    return path


def _read_torch(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise UserError(f"{path} is not a checkpoint that torch.load(weights_only=True) reads: {error}") from error
    if not isinstance(content, Mapping) or not {"model_config", "model"} <= content.keys():
        raise UserError(f"{path} must hold 'model_config' and 'model': it is no LingBot-Depth checkpoint")
    return content["model_config"], content["model"]


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a reader, not a dict)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
    beside = path.with_name("config.json")
    if "model_config" in metadata:
        return json.loads(metadata["model_config"]), tensors
    if not beside.is_file():
        raise UserError(f"{path} has no 'model_config' in its metadata and no config.json beside it: add one of them")
    return json.loads(beside.read_text()), tensors


def _some(names: list[str]) -> str:
    return "none" if not names else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
