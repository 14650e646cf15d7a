"""Reads a parity fixture: a folder of numbers that the released code produced, in any dimensions.

`config.json` says what the released policy was made of, `weights.safetensors` has released names, and each
`inputs*.safetensors` has an `outputs*.safetensors` beside it. Two files stand alone: `preprocess.safetensors` and
`euler_schedule.json`.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.errors import UserError, unknown_name
from model.vla.inputs import Inputs, Targets

PREPROCESS, EULER_SCHEDULE = "preprocess.safetensors", "euler_schedule.json"
NEEDED = ("config.json", "weights.safetensors", "inputs.safetensors", "outputs.safetensors")
KNOWN = re.compile(r"config\.json|weights\.safetensors|(in|out)puts\w*\.safetensors")
DATA = (".json", ".safetensors", ".npz", ".npy", ".pt")

INPUTS = ("img_masks", "lang_tokens", "lang_masks", "state", "actions", "noise", "time")
OPTIONAL_INPUTS = ("images", "depth_targets")
SCALED_IMAGES = re.compile(r"images_int8_x(\d+)")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One inputs file. B batch, V views, P patches a view, K text, T steps, D dimensions, N and C depth tokens."""

    patches_BVPX: Tensor
    image_mask_BV: Tensor
    tokens_BK: Tensor
    token_mask_BK: Tensor
    state_BD: Tensor
    actions_BTD: Tensor
    noise_BTD: Tensor
    time_B: Tensor  # the released t: 1 is noise
    depth_tokens_BVNC: Tensor | None

    @property
    def inputs(self) -> Inputs:
        return Inputs(
            images=self.patches_BVPX,
            image_mask=self.image_mask_BV,
            tokens=self.tokens_BK,
            token_mask=self.token_mask_BK,
            state=self.state_BD,
        )

    def targets(self, action_dim: int) -> Targets:
        """As the released loss has them: every step counts, its padding is ignored; so do the first `action_dim`."""
        B, T, D = self.actions_BTD.shape
        return Targets(
            actions=self.actions_BTD,
            step_mask=torch.ones(B, T, dtype=torch.bool),
            dimension_mask=(torch.arange(D) < action_dim).expand(B, D),
            depth_tokens=self.depth_tokens_BVNC,
            depth_mask=None if self.depth_tokens_BVNC is None else self.image_mask_BV,
        )


@dataclass(frozen=True)
class Fixture:
    """The folder. Opening it fails where a file that every fixture needs is missing."""

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is not a folder: give the folder of a parity fixture.")
        for name in NEEDED:
            self.path(name)

    def path(self, name: str) -> Path:
        """A file that has to be there."""
        if not self.has(name):
            raise UserError(f"{self.folder} has no {name}: a parity fixture needs it; copy the whole folder.")
        return self.folder / name

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def pairs(self) -> list[tuple[str, str]]:
        """File names of inputs and their outputs; one without the other is an error."""
        ends = {path.name[len(kind) :] for kind in ("inputs", "outputs") for path in self.folder.glob(f"{kind}*")}
        pairs = [(f"inputs{end}", f"outputs{end}") for end in sorted(ends) if KNOWN.fullmatch(f"inputs{end}")]
        for pair in pairs:
            for name in pair:
                self.path(name)
        return pairs

    def unknown_files(self) -> list[str]:
        """Files of data that nothing here reads."""
        data = (path.name for path in sorted(self.folder.iterdir()) if path.suffix in DATA)
        return [name for name in data if not KNOWN.fullmatch(name) and name not in (PREPROCESS, EULER_SCHEDULE)]

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors of a safetensors file."""
        try:
            return load_file(self.path(name))
        except SafetensorError as error:
            raise UserError(f"{self.folder / name} is not a safetensors file: {error}; copy it again.") from error

    def read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self.path(name).read_text())
        except ValueError as error:
            raise UserError(f"{self.folder / name} is not JSON: {error}; copy it again.") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.folder / name} holds no JSON object; copy it again.")
        return content

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.read_json("config.json")

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Released names; fp32, as everything is compared."""
        return {name: tensor.float() for name, tensor in self.read("weights.safetensors").items()}

    def batch(self, name: str) -> Batch:
        """The inputs of one file. UserError on a key that is missing or unknown."""
        tensors = self.read(name)
        scaled = [key for key in tensors if SCALED_IMAGES.fullmatch(key)]
        unknown = sorted(tensors.keys() - {*INPUTS, *OPTIONAL_INPUTS, *scaled})
        if unknown:
            raise unknown_name(f"key of {name}", unknown[0], {*INPUTS, *OPTIONAL_INPUTS})
        missing = [key for key in INPUTS if key not in tensors]
        if missing or ("images" in tensors) + len(scaled) != 1:
            absent = ", ".join(missing) or "images (or images_int8_x<divisor>, one of them)"
            raise UserError(f"{self.folder / name} lacks {absent}: write them again.")
        patches = tensors[scaled[0]] / int(scaled[0].rpartition("x")[2]) if scaled else tensors["images"]
        depth, slots = tensors.get("depth_targets"), tensors["img_masks"].shape
        if depth is not None and len(depth) != slots.numel():
            raise UserError(
                f"{self.folder / name}: depth_targets has {len(depth)} rows, img_masks {slots.numel()} views: "
                "there is one row a view, batch * views + view."
            )
        return Batch(
            patches_BVPX=patches.float(),
            image_mask_BV=tensors["img_masks"].bool(),
            tokens_BK=tensors["lang_tokens"].long(),
            token_mask_BK=tensors["lang_masks"].bool(),
            state_BD=tensors["state"].float(),
            actions_BTD=tensors["actions"].float(),
            noise_BTD=tensors["noise"].float(),
            time_B=tensors["time"].float(),
            depth_tokens_BVNC=None if depth is None else depth.float().unflatten(0, slots),
        )
