"""Pure, invertible transforms on vectors [..., D]: choosing dimensions, padding, and angles as sine and cosine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.errors import UserError


@dataclass(frozen=True)
class Pick:
    """Take dimensions `dims` of `width`, in that order. The inverse puts them back and fills the others with `fill`.

    With it a robot whose dimensions do not all fit a vector (`Robot.unified_action_slots`) takes part with the rest.
    """

    dims: tuple[int, ...]
    width: int
    fill: float = 0.0

    def __post_init__(self) -> None:
        if len(set(self.dims)) != len(self.dims) or any(not 0 <= dim < self.width for dim in self.dims):
            raise UserError(f"dimensions {list(self.dims)}: each must be given once and lie in 0 to {self.width - 1}.")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[..., width] to [..., len(dims)]."""
        return _of_width(values, self.width)[..., list(self.dims)]

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """[..., len(dims)] to [..., width]."""
        array = _of_width(values, len(self.dims))
        placed = np.full((*array.shape[:-1], self.width), self.fill, array.dtype)
        placed[..., list(self.dims)] = array
        return placed

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "Pick", "dims": list(self.dims), "width": self.width, "fill": self.fill}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Pick":
        """Inverse of `to_json`."""
        return cls(tuple(map(int, data["dims"])), int(data["width"]), float(data["fill"]))


@dataclass(frozen=True)
class Pad:
    """Append zeros: [..., size] to [..., width]. The inverse cuts them off."""

    size: int
    width: int

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.width:
            raise UserError(f"padding from {self.size} to {self.width} dimensions: the second must be the larger.")

    @property
    def mask(self) -> np.ndarray:
        """Bool [width]: True where a value is, False where padding is."""
        return np.arange(self.width) < self.size

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[..., size] to [..., width]."""
        array = _of_width(values, self.size)
        return np.concatenate([array, np.zeros((*array.shape[:-1], self.width - self.size), array.dtype)], -1)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """[..., width] to [..., size]."""
        return _of_width(values, self.width)[..., : self.size]

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "Pad", "size": self.size, "width": self.width}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Pad":
        """Inverse of `to_json`."""
        return cls(int(data["size"]), int(data["width"]))


@dataclass(frozen=True)
class SinCos:
    """Angles `dims` (radian) of `width` dimensions as sine, in place, and cosine, appended in the order of `dims`.

    Two turns of a joint look alike, and the jump at half a turn is gone: for states alone (SPEC_VLA section 1.12). The
    inverse gives the angle in (-pi, pi], and needs no unit circle.
    """

    dims: tuple[int, ...]
    width: int

    def __post_init__(self) -> None:
        if len(set(self.dims)) != len(self.dims) or any(not 0 <= dim < self.width for dim in self.dims):
            raise UserError(f"angles {list(self.dims)}: each must be given once and lie in 0 to {self.width - 1}.")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[..., width] to [..., width + len(dims)]."""
        array = _of_width(values, self.width)
        angles = array[..., list(self.dims)]
        turned = np.concatenate([array, np.cos(angles)], -1)
        turned[..., list(self.dims)] = np.sin(angles)
        return turned

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """[..., width + len(dims)] to [..., width]."""
        array = _of_width(values, self.width + len(self.dims))
        angles = np.array(array[..., : self.width])
        angles[..., list(self.dims)] = np.arctan2(array[..., list(self.dims)], array[..., self.width :])
        return angles

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {"type": "SinCos", "dims": list(self.dims), "width": self.width}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SinCos":
        """Inverse of `to_json`."""
        return cls(tuple(map(int, data["dims"])), int(data["width"]))


def _of_width(values: np.ndarray, width: int) -> np.ndarray:
    array = np.asarray(values)
    if array.shape[-1:] != (width,):
        raise UserError(f"values of shape {array.shape} do not end in {width} dimensions; use the same robot and key.")
    return array
