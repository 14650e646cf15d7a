"""Statistics of states and actions, and the normalisation modes of LingBot-VLA (SPEC_VLA section 1.12).

Mean and standard deviation stream by Welford's update and merge by Chan's formula. Quantiles are exact by default
(linear interpolation over every value): an accumulator keeps its values as float32, so one million frames of 14
dimensions cost 56 MB. Where that is too much, as for every step of every chunk, a sketch keeps counts instead and is
right to one part in 2,048 of the value (`model.data.sketch`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from model.data.sketch import QuantileSketch
from model.errors import UserError, unknown_name

QUANTILES = {"q01": 0.01, "q99": 0.99, "q02": 0.02, "q98": 0.98}
EPSILON = 1e-6  # added to every range by the released normaliser, so a constant dimension divides by it


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What is known of one vector: float64 arrays [..., D] of equal shape, read-only; `std` is of the population.

    A leading axis (statistics for each step of a chunk, [T, D]) broadcasts against the values.
    """

    count: int
    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    q02: np.ndarray
    q98: np.ndarray

    def __post_init__(self) -> None:
        for name in ARRAYS:
            array = np.array(getattr(self, name), dtype=np.float64)
            if not np.isfinite(array).all():
                raise UserError(f"statistics: '{name}' holds NaN or infinity; compute them again from finite values.")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shapes = {name: getattr(self, name).shape for name in ARRAYS}
        if len(set(shapes.values())) != 1 or not self.mean.ndim:
            raise UserError(f"statistics: all arrays must have one shape [..., dimensions], these have {shapes}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statistics) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.count, self.mean.tobytes(), self.std.tobytes()))

    @property
    def dim(self) -> int:
        """Number of dimensions D."""
        return int(self.mean.shape[-1])

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; floats survive exactly."""
        return {"count": self.count} | {name: getattr(self, name).tolist() for name in ARRAYS}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Statistics":
        """Inverse of `to_json`. UserError names what is missing."""
        missing = [name for name in ("count", *ARRAYS) if name not in data]
        if missing:
            raise UserError(f"statistics: {', '.join(missing)} missing; they need count, {', '.join(ARRAYS)}.")
        return cls(count=int(data["count"]), **{name: np.asarray(data[name], np.float64) for name in ARRAYS})


ARRAYS = tuple(entry.name for entry in fields(Statistics) if entry.name != "count")


class StatisticsAccumulator:
    """Streams values [N, D] into `Statistics`; accumulators of shards merge, in any order and grouping.

    Count, minimum, maximum and quantiles are then the same bits, mean and deviation the same to rounding.

    Args:
        quantiles: "exact" keeps every value; "sketch" counts them in buckets (`model.data.sketch`).
    """

    def __init__(self, quantiles: Literal["exact", "sketch"] = "exact") -> None:
        if quantiles not in ("exact", "sketch"):
            raise unknown_name("quantiles", quantiles, ("exact", "sketch"))
        self.count = 0
        self._sketch = QuantileSketch() if quantiles == "sketch" else None
        self._extremes: tuple[np.ndarray, np.ndarray] | None = None
        self._mean = np.zeros(0)
        self._squares = np.zeros(0)  # sum of squared deviations from the mean
        self._values: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Take values [N, D]. UserError on another D than before, or on NaN or infinity."""
        block = np.array(values, dtype=np.float32)
        assert block.ndim == 2, f"values must be [N, D], not {block.shape}"
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise UserError(
                f"statistics: value {block[row, column]} at row {row}, dimension {column}; "
                "quarantine the episode or mend it, statistics need finite values."
            )
        if len(block):
            exact = block.astype(np.float64)
            mean = exact.mean(0)
            self._combine(len(block), mean, ((exact - mean) ** 2).sum(0))
            self._widen(block.min(0), block.max(0))
            if self._sketch is None:
                self._values.append(block)
            else:
                self._sketch.add(block)

    def merge(self, other: "StatisticsAccumulator") -> None:
        """Take everything that `other` has seen (Chan, Golub and LeVeque 1979)."""
        if other.count:
            assert (self._sketch is None) == (other._sketch is None), "exact and sketched quantiles do not merge"
            assert other._extremes is not None
            self._combine(other.count, other._mean, other._squares)
            self._widen(*other._extremes)
            self._values.extend(other._values)
            if self._sketch is not None and other._sketch is not None:
                self._sketch.merge(other._sketch)

    def _widen(self, low: np.ndarray, high: np.ndarray) -> None:
        if self._extremes is not None:
            low, high = np.minimum(low, self._extremes[0]), np.maximum(high, self._extremes[1])
        self._extremes = low, high

    def _combine(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        if not self.count:
            self.count, self._mean, self._squares = count, mean, squares
            return
        if mean.shape != self._mean.shape:
            raise UserError(
                f"statistics: {mean.shape[0]} dimensions after {self._mean.shape[0]}; "
                "one dataset must have one number of dimensions."
            )
        total = self.count + count
        delta = mean - self._mean
        self._mean = self._mean + delta * (count / total)
        self._squares = self._squares + squares + delta**2 * (self.count * count / total)
        self.count = total

    def arrays(self) -> dict[str, np.ndarray]:
        """All that this shard knows, to be stored (`np.savez`) and merged elsewhere. Sketched quantiles only."""
        assert self._sketch is not None and self._extremes is not None, "a shard is stored as a sketch of some values"
        keys, counts = self._sketch.buckets
        low, high = self._extremes
        return {
            "count": np.array(self.count), "mean": self._mean, "squares": self._squares,
            "min": low, "max": high, "keys": keys, "counts": counts,
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "StatisticsAccumulator":
        """Inverse of `arrays`."""
        shard = cls("sketch")
        shard.count, shard._mean, shard._squares = int(arrays["count"]), arrays["mean"], arrays["squares"]
        shard._extremes = arrays["min"], arrays["max"]
        shard._sketch = QuantileSketch(arrays["keys"], arrays["counts"])
        return shard

    def result(self) -> Statistics:
        """The statistics of everything seen. UserError when nothing was."""
        if not self.count:
            raise UserError("statistics of no values: at least one frame is needed.")
        assert self._extremes is not None
        low, high = self._extremes
        shares = tuple(QUANTILES.values())
        if self._sketch is None:
            quantiles = np.quantile(np.concatenate(self._values).astype(np.float64), shares, axis=0)
        else:
            quantiles = self._sketch.quantiles(shares, len(low)).clip(low, high)
        return Statistics(
            count=self.count,
            mean=self._mean,
            std=np.sqrt(self._squares / self.count),
            min=low,
            max=high,
            **dict(zip(QUANTILES, quantiles, strict=True)),
        )


@dataclass(frozen=True, kw_only=True)
class _Mode:
    """`bounds` gives (offset, range): forward is (x - offset) / (range + epsilon), onto [-1, 1] if `signed`."""

    bounds: Callable[[Statistics], tuple[np.ndarray, np.ndarray]]
    signed: bool = False
    clip: float | None = None


def _between(low: str, high: str) -> Callable[[Statistics], tuple[np.ndarray, np.ndarray]]:
    return lambda statistics: (getattr(statistics, low), getattr(statistics, high) - getattr(statistics, low))


# `minmax` follows the newer code, which clips; the `minmax` of the first release is `minmax_woclip` here.
_MODES: dict[str, _Mode] = {
    "meanstd": _Mode(bounds=lambda s: (s.mean, s.std)),
    "std": _Mode(bounds=lambda s: (np.zeros_like(s.std), s.std)),
    "minmax": _Mode(bounds=_between("min", "max"), signed=True, clip=1.0),
    "minmax_woclip": _Mode(bounds=_between("min", "max"), signed=True),
    "bounds_99": _Mode(bounds=_between("q01", "q99"), signed=True, clip=1.5),
    "bounds_99_woclip": _Mode(bounds=_between("q01", "q99"), signed=True),
    "bounds_98": _Mode(bounds=_between("q02", "q98"), signed=True, clip=1.5),
    "bounds_98_woclip": _Mode(bounds=_between("q02", "q98"), signed=True),
}
MODES = (*_MODES, "identity")


@dataclass(frozen=True)
class Normalize:
    """Normalise values [..., D] of one vector, and back (SPEC_VLA section 1.12).

    Computes in float64 and keeps the dtype of floating input. The inverse is exact to rounding for every mode; in the
    clipping modes (`minmax`, `bounds_99`, `bounds_98`) it is so for values that were not clipped. `epsilon` is the
    released 1e-6; a larger one tames a dimension that hardly moved when the statistics were taken.
    """

    statistics: Statistics
    mode: str = "meanstd"
    epsilon: float = field(default=EPSILON, kw_only=True)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("normalisation mode", self.mode, MODES)
        if not self.epsilon > 0:
            raise UserError(f"normalisation: epsilon {self.epsilon} must be above 0; the released value is {EPSILON}.")

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray, float]:
        """(offset, scale, shift) with forward = (x - offset) * scale - shift."""
        mode = _MODES[self.mode]
        offset, width = mode.bounds(self.statistics)
        return offset, (2.0 if mode.signed else 1.0) / (width + self.epsilon), float(mode.signed)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Robot units to normalised values, same shape and floating dtype."""
        if self.mode == "identity":
            return _floating(values)
        self._check(values)
        offset, scale, shift = self._affine
        normalised = (np.asarray(values, np.float64) - offset) * scale - shift
        clip = _MODES[self.mode].clip
        if clip is not None:
            normalised = normalised.clip(-clip, clip)
        return normalised.astype(_floating(values).dtype)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Normalised values to robot units, same shape and floating dtype; never clips."""
        if self.mode == "identity":
            return _floating(values)
        self._check(values)
        offset, scale, shift = self._affine
        return ((np.asarray(values, np.float64) + shift) / scale + offset).astype(_floating(values).dtype)

    def _check(self, values: np.ndarray) -> None:
        if np.shape(values)[-1:] != (self.statistics.dim,):
            raise UserError(
                f"normalisation: values of shape {np.shape(values)} do not end in the {self.statistics.dim} dimensions "
                "of the statistics; use the statistics of the same robot and key."
            )

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild it."""
        return {
            "type": "Normalize",
            "mode": self.mode,
            "epsilon": self.epsilon,
            "statistics": self.statistics.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Normalize":
        """Inverse of `to_json`."""
        return cls(Statistics.from_json(data["statistics"]), data["mode"], epsilon=float(data["epsilon"]))


def _floating(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
