"""The two files that need no batch: image and state preprocessing, and the Euler clock."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.data.normalization import Normalize, Statistics
from model.errors import UserError
from model.vla import flow
from model.vla.parity.configuration import vision_config
from model.vla.parity.run import Run
from model.vla.towers.qwen2_5_vl import normalize_images, patchify

CAMERAS = ("raw_base", "raw_left", "raw_right")  # the released order; absent ones are left out of the file
EVERY = 8  # the file keeps every 8th patch of a view
NORMALIZATION = "bounds_99_woclip"
NORMALIZED = re.compile(r"norm_(\w+)_out")
CLOCK = re.compile(r"torch\.(float32|bfloat16)_(\d+)")


@dataclass(frozen=True)
class Preprocessing:
    """Our values for the keys of preprocess.safetensors, and its keys that are no outputs."""

    outputs: Mapping[str, Tensor]
    inputs: frozenset[str]


def preprocess(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Preprocessing:
    """Images to patch vectors [V, P / 8, values] and robot vectors to normalised ones, with our own code."""
    cameras = [name for name in CAMERAS if name in tensors]
    outputs: dict[str, Tensor] = {}
    inputs = set(cameras)
    if cameras and "pixel_values" in tensors:
        present = torch.tensor([name in tensors for name in CAMERAS])[: len(tensors["pixel_values"])]
        images = torch.stack([tensors[name] for name in cameras]).permute(0, 2, 3, 1)
        patches = patch_vectors(config, images)
        views = patches.new_zeros(len(present), *patches.shape[1:])
        views[present] = patches
        outputs |= {"pixel_values": views, "img_masks": present}
    for key in tensors:
        match = NORMALIZED.fullmatch(key)
        parts = [f"norm_{match[1]}_in", f"q01_{match[1]}", f"q99_{match[1]}"] if match else []
        if match and all(part in tensors for part in parts):
            values, q01, q99 = (tensors[part].numpy() for part in parts)
            outputs[key] = torch.from_numpy(Normalize(quantiles(q01, q99), NORMALIZATION)(values))
            inputs.update(parts)
    return Preprocessing(outputs, frozenset(inputs))


def patch_vectors(config: Mapping[str, Any], images: Tensor) -> Tensor:
    """Every 8th patch vector [X, P / 8, values] of uint8 images [X, S, S, 3]."""
    height, width = images.shape[1:3]
    patch_size = vision_config(config, 0).patch_size
    if height != width or height % patch_size:
        raise UserError(f"preprocess: images are {height} x {width}: give squares of whole patches of {patch_size}.")
    vision = vision_config(config, height // patch_size)
    return patchify(normalize_images(images), vision)[:, ::EVERY]


def quantiles(q01: np.ndarray, q99: np.ndarray) -> Statistics:
    """Statistics of which only these two are known and used."""
    unused = np.zeros_like(q01)
    return Statistics(
        count=0, mean=unused, std=unused, min=unused, max=unused, q01=q01, q99=q99, q02=unused, q98=unused
    )


@dataclass(frozen=True, kw_only=True)
class Clock:
    """One entry of euler_schedule.json: released dtype and number of steps asked for, and what was executed."""

    name: str
    dtype: str
    asked: int
    released: Mapping[str, float]

    def ours(self, run: Run) -> dict[str, Tensor]:
        """Executed steps, and the computed clock in released time: the sum of dt and the last t that is used."""
        schedule = flow.euler_schedule(self.asked)
        return {
            "steps": torch.tensor(float(run.executed_steps(self.asked))),
            "sum_dt": torch.tensor(-len(schedule) / self.asked),
            "last_t": torch.tensor(1 - schedule[-1]),
        }


def clocks(content: Mapping[str, Any]) -> Iterator[Clock | str]:
    """The entries of euler_schedule.json; the name alone of one that is unknown."""
    for name, released in content.items():
        match = CLOCK.fullmatch(name)
        if match and isinstance(released, Mapping) and int(match[2]) > 0:
            yield Clock(name=name, dtype=match[1], asked=int(match[2]), released=released)
        else:
            yield name
