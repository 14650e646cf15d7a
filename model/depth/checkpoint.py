"""Reads a LingBot-Depth checkpoint: `model.pt` as released, or safetensors, with the config that came with it.

Source: SPEC_DEPTH section 1. The released loader drops what does not match; this one refuses, because a dropped depth
patch embedding leaves random weights and changes the features by about half (section 1.1).
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.depth.config import DecoderConfig, DepthConfig
from model.depth.encoder import RGBDEncoder
from model.depth.network import LingBotDepth
from model.errors import UserError

NEVER_BUILT = ("normal_head.", "scale_head.")  # accepted by the released code, built by none
DECODER = ("neck.", "depth_head.", "mask_head.")  # for depth maps; the tokens do not need them
RENAMED = ("encoder.backbone.depth_mask_patch_embed.", "encoder.backbone.depth_patch_embed.")
NAMED = 8  # tensors that an error names one by one
Network = TypeVar("Network", RGBDEncoder, LingBotDepth)


@dataclass(frozen=True, kw_only=True)
class DepthCheckpoint:
    """Configuration and tensors of one file, checked against each other, and what of it nothing needs."""

    path: Path
    config: DepthConfig
    decoder: DecoderConfig | None  # None in a checkpoint of the encoder alone
    model_config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]  # official names: `encoder.`, `neck.`, `depth_head.`, `mask_head.`
    unused: tuple[str, ...]  # prefixes present in the file that no network has

    def encoder(self) -> RGBDEncoder:
        """The encoder with these weights in fp32, frozen."""
        prefix = "encoder."
        with torch.device("meta"):
            encoder = RGBDEncoder(self.config)
        return _load(
            encoder, {n.removeprefix(prefix): tensor for n, tensor in self.tensors.items() if n.startswith(prefix)}
        )

    def network(self) -> LingBotDepth:
        """Encoder, neck and heads with these weights in fp32, frozen. UserError for a checkpoint without a decoder."""
        if self.decoder is None:
            raise UserError(f"{self.path} has no 'neck' and heads: depth maps need a whole checkpoint")
        with torch.device("meta"):
            network = LingBotDepth(self.config, self.decoder)
        return _load(network, self.tensors)


def read_checkpoint(path: str | Path, *, num_heads: int | None = None) -> DepthCheckpoint:
    """Reads `model.pt` or a safetensors file; a folder means the `model.pt` or `model.safetensors` in it.

    A safetensors file carries its config as JSON in the metadata key `model_config` or in `config.json` beside it.
    The config comes from the file, and every tensor must be in its place: only `normal_head.*` and `scale_head.*`,
    which no released code builds, may be left over. `num_heads` stands for `model_config.encoder.num_heads`, which a
    backbone of one's own needs because its weights do not tell it.

    Raises:
        UserError: the file is missing or no checkpoint, its config asks for something unknown, or tensors are missing,
            unexpected, misshaped or not finite.
    """
    path = _file(Path(path))
    model_config, found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(model_config, Mapping) or not isinstance(model_config.get("encoder"), Mapping):
        raise UserError(f"{path}: model_config has no 'encoder' section: it is no LingBot-Depth checkpoint")
    if num_heads is not None:
        model_config = {**model_config, "encoder": {**model_config["encoder"], "num_heads": num_heads}}
    leftover = {prefix for prefix in NEVER_BUILT for name in found if name.startswith(prefix)}
    tensors: dict[str, Tensor] = {}
    for name, tensor in found.items():
        if name.startswith(NEVER_BUILT):
            continue
        official = name.replace(*RENAMED)
        if official in tensors or (official != name and official in found):
            raise UserError(f"{path} holds '{official}' under two names: keep one of them")
        tensors[official] = tensor
    config = DepthConfig.from_model_config(model_config, {name: tuple(t.shape) for name, t in tensors.items()})
    decoder = DecoderConfig.from_model_config(model_config)
    _check(path, _expected(config, decoder), tensors, config)
    return DepthCheckpoint(
        path=path,
        config=config,
        decoder=decoder,
        model_config=model_config,
        tensors=tensors,
        unused=tuple(sorted(prefix.rstrip(".") for prefix in leftover)),
    )


def _load(network: Network, tensors: Mapping[str, Tensor]) -> Network:
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)


def _expected(config: DepthConfig, decoder: DecoderConfig | None) -> dict[str, tuple[int, ...]]:
    """Official names and shapes of what the config describes."""
    with torch.device("meta"):
        if decoder is None:
            return {f"encoder.{name}": tuple(t.shape) for name, t in RGBDEncoder(config).state_dict().items()}
        return {name: tuple(t.shape) for name, t in LingBotDepth(config, decoder).state_dict().items()}


def _check(
    path: Path, expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], config: DepthConfig
) -> None:
    """UserError listing every tensor that is not as the config says, and what to do."""
    misshaped = [
        f"{name} {tuple(tensor.shape)} instead of {expected[name]}"
        for name, tensor in sorted(tensors.items())
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    faults = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "misshaped": misshaped,
    }
    if any(faults.values()):
        parts = "; ".join(f"{kind} {_some(names)}" for kind, names in faults.items() if names)
        if any(name.startswith(DECODER) for names in faults.values() for name in names):
            fix = "check model_config.neck and the heads, or take them out of config and file to read the encoder alone"
        else:
            fix = "check model_config.encoder"
        raise UserError(f"{path} does not hold what its model_config ('{config.backbone}') describes: {parts}; {fix}")
    broken = [name for name, tensor in sorted(tensors.items()) if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(f"{path} holds numbers that are not finite in {_some(broken)}: fetch or export it again")


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
    model = content["model"]
    if not isinstance(model, Mapping) or not all(isinstance(tensor, Tensor) for tensor in model.values()):
        raise UserError(f"{path}: 'model' must be a dictionary of tensors: it is no LingBot-Depth checkpoint")
    return content["model_config"], model


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a reader, not a dict)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
    beside = path.with_name("config.json")
    if "model_config" in metadata:
        return _parse(metadata["model_config"], f"the metadata of {path}"), tensors
    if not beside.is_file():
        raise UserError(f"{path} has no 'model_config' in its metadata and no config.json beside it: add one of them")
    return _parse(beside.read_bytes(), str(beside)), tensors


def _parse(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from error


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
