"""Pure transforms shared by training and serving: placing a robot's dimensions, resizing images, and chains of them.

Each is a frozen dataclass, works over any leading axes, and survives JSON, so a bundle carries the very objects that
training used. Those on vectors are invertible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from model.data.delta import SubtractState
from model.data.normalization import Normalize
from model.data.vectors import Pad, Pick, SinCos
from model.errors import UserError, unknown_name

CANONICAL_DIM = 75  # LingBot-VLA 1.0's unified state and action vector (SPEC_VLA section 1.12)


class Transform(Protocol):
    """A pure function on values [..., D] with an inverse."""

    def __call__(self, values: np.ndarray) -> np.ndarray: ...

    def inverse(self, values: np.ndarray) -> np.ndarray: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class ToCanonical:
    """Scatter a robot's dimensions [..., len(slots)] into the canonical vector [..., dim], zero elsewhere.

    `slots[i]` is where the robot's dimension i goes. The inverse gathers, and is exact.
    """

    slots: tuple[int, ...]
    dim: int = CANONICAL_DIM

    def __post_init__(self) -> None:
        outside = [slot for slot in self.slots if not 0 <= slot < self.dim]
        if outside:
            raise UserError(f"slots {outside} lie outside the {self.dim}-dimensional vector; use 0 to {self.dim - 1}.")
        twice = sorted({slot for slot in self.slots if self.slots.count(slot) > 1})
        if twice:
            raise UserError(f"slots {twice} are given twice; each dimension of a robot needs a slot of its own.")

    @cached_property
    def mask(self) -> np.ndarray:
        """bool [dim]: which slots this robot fills."""
        filled = np.zeros(self.dim, bool)
        filled[list(self.slots)] = True
        return filled

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[..., len(slots)] to [..., dim]."""
        array = np.asarray(values)
        if array.shape[-1:] != (len(self.slots),):
            raise UserError(f"values of shape {array.shape} do not end in the robot's {len(self.slots)} dimensions.")
        placed = np.zeros((*array.shape[:-1], self.dim), array.dtype)
        placed[..., list(self.slots)] = array
        return placed

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """[..., dim] to [..., len(slots)]."""
        array = np.asarray(values)
        if array.shape[-1:] != (self.dim,):
            raise UserError(f"values of shape {array.shape} do not end in {self.dim} canonical dimensions.")
        return array[..., list(self.slots)]

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "ToCanonical", "slots": list(self.slots), "dim": self.dim}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ToCanonical":
        """Inverse of `to_json`."""
        return cls(tuple(int(slot) for slot in data["slots"]), int(data["dim"]))


@dataclass(frozen=True)
class Chain:
    """Transforms one after another; the inverse runs them backwards."""

    transforms: tuple[Transform, ...]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Apply every transform, first to last."""
        for transform in self.transforms:
            values = transform(values)
        return values

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Undo every transform, last to first."""
        for transform in reversed(self.transforms):
            values = transform.inverse(values)
        return values

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "Chain", "transforms": [transform.to_json() for transform in self.transforms]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Chain":
        """Inverse of `to_json`."""
        return cls(tuple(transform_from_json(entry) for entry in data["transforms"]))


@dataclass(frozen=True)
class ResizeImage:
    """Resize uint8 images [..., H, W, 3] to a square: anti-aliased bilinear, aspect not kept (SPEC_VLA section 1.11).

    Packing and serving use this same object, so a policy meets at inference the pixels it was trained on. An image that
    has the size already passes unchanged. Not invertible.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"image size {self.size} must be at least 1 pixel.")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [..., H, W, 3] to uint8 [..., size, size, 3]."""
        from PIL import Image

        if image.dtype != np.uint8 or image.ndim < 3 or image.shape[-1] != 3:
            raise UserError(f"an image must be uint8 [..., height, width, 3]; this is {image.dtype} {image.shape}.")
        if image.shape[-3:-1] == (self.size, self.size):
            return image
        flat = image.reshape(-1, *image.shape[-3:])
        resized = np.empty((len(flat), self.size, self.size, 3), np.uint8)
        for index, picture in enumerate(flat):
            # Pillow widens the bilinear kernel when it shrinks, which is the anti-aliasing
            shrunk = Image.fromarray(picture).resize((self.size, self.size), Image.Resampling.BILINEAR)
            resized[index] = np.asarray(shrunk)
        return resized.reshape(*image.shape[:-3], self.size, self.size, 3)

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "ResizeImage", "size": self.size}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ResizeImage":
        """Inverse of `to_json`."""
        return cls(int(data["size"]))


_TYPES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "Normalize": Normalize.from_json,
    "ToCanonical": ToCanonical.from_json,
    "Chain": Chain.from_json,
    "ResizeImage": ResizeImage.from_json,
    "Pick": Pick.from_json,
    "Pad": Pad.from_json,
    "SinCos": SinCos.from_json,
    "SubtractState": SubtractState.from_json,
}


def transform_from_json(data: Mapping[str, Any]) -> Any:
    """Rebuild any transform from what its `to_json` gave. UserError on an unknown type."""
    kind = str(data.get("type"))
    if kind not in _TYPES:
        raise unknown_name("transform", kind, _TYPES)
    return _TYPES[kind](data)
