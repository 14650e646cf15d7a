"""How an error falls with the amount of data: error = scale * amount ** -exponent, and how sure the exponent is.

Each training run is one observation. The law is a line through the logarithms, by least squares. Its intervals come
from resampling the runs' distances to the line, so they hold what training again, on other data and with another seed,
would change, as well as the scenes that happened to be drawn: whatever moved the runs off the line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import UserError
from model.evaluation.intervals import CONFIDENCE

MIN_AMOUNTS = 3
"""Any two points lie on some power law: it takes a third to say anything about one."""
MIN_RUNS = 5
"""Fewer do not show how far runs scatter. Simulated with normal, heavy-tailed, skewed and uneven noise, an interval
from 4 runs holds in 91 to 93% of cases, from 5 in 94 to 95%, from 6 and more in 92 to 97%."""
DRAWS = 10_000
NO_SCATTER = 1e-9
"""Of a resample's scatter, relative to that of the runs: below it the same residual was drawn every time."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """error = scale * amount ** -exponent. A positive exponent: more data, smaller error."""

    scale: float
    exponent: float

    def at(self, amounts: Sequence[float] | np.ndarray) -> np.ndarray:
        """Errors float64 [N] at positive amounts [N]."""
        return self.scale * np.asarray(amounts, np.float64) ** -self.exponent


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A power law with what is known of it.

    Attributes:
        runs: observations.
        r_squared: share of the logarithms' variance that the law explains.
        exponent_low, exponent_high: the interval; None with fewer than `MIN_RUNS` runs.
        band_low, band_high: of the law itself (the mean of further runs, not a single one) at each asked amount, point
            by point; None with fewer than `MIN_RUNS` runs.
    """

    law: PowerLaw
    runs: int
    r_squared: float
    exponent_low: float | None
    exponent_high: float | None
    band_low: np.ndarray | None
    band_high: np.ndarray | None


def fit_power_law(amounts: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The least-squares line through the logarithms of N amounts and their errors.

    Raises:
        UserError: an amount or error that is not positive and finite, or fewer than two different amounts.
    """
    line = _Line.through(*_logarithms(amounts, errors))
    return line.law()


def fit_with_intervals(
    amounts: Sequence[float],
    errors: Sequence[float],
    *,
    at: Sequence[float] | np.ndarray = (),
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Fit:
    """The law with bootstrap intervals; equal runs give equal intervals, in whatever order they come.

    The intervals are studentised (Hall 1988, "bootstrap-t"): residuals, scaled up by their leverage, are drawn with
    replacement, and the percentiles are taken of the resampled slope over its own standard error. Percentiles of the
    slope itself would be far too narrow for the handful of runs that a study has.

    Args:
        at: amounts at which the band is wanted.

    Raises:
        UserError: as `fit_power_law`, or fewer than `MIN_AMOUNTS` different amounts.
    """
    if len(set(amounts)) < MIN_AMOUNTS:
        raise UserError(
            f"a power law takes {MIN_AMOUNTS} different amounts of data, there are {len(set(amounts))}: "
            "add amounts to the study"
        )
    x, y = _logarithms(amounts, errors)
    order = np.lexsort((y, x))
    line = _Line.through(x[order], y[order])
    total = float(np.square(line.y - line.y.mean()).sum())
    unexplained = float(np.square(line.residuals).sum())
    r_squared = 1.0 - unexplained / total if total > 0 else 1.0
    if len(line.x) < MIN_RUNS:
        return Fit(
            law=line.law(), runs=len(line.x), r_squared=r_squared,
            exponent_low=None, exponent_high=None, band_low=None, band_high=None,
        )  # fmt: skip
    (slope_low, slope_high), (low, high) = _intervals(line, np.log(np.asarray(at, np.float64)), seed, confidence)
    return Fit(
        law=line.law(),
        runs=len(line.x),
        r_squared=r_squared,
        exponent_low=-slope_high,
        exponent_high=-slope_low,
        band_low=np.exp(low),
        band_high=np.exp(high),
    )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """y = mean + slope * centred, over N logarithms. `spread` is the sum of squares of `centred`."""

    x: np.ndarray
    y: np.ndarray
    centred: np.ndarray
    spread: float
    mean: float
    slope: float

    @classmethod
    def through(cls, x: np.ndarray, y: np.ndarray) -> "_Line":
        centred = x - x.mean()
        spread = float(np.square(centred).sum())
        return cls(
            x=x, y=y, centred=centred, spread=spread, mean=float(y.mean()), slope=float((centred * y).sum() / spread)
        )

    def law(self) -> PowerLaw:
        return PowerLaw(scale=math.exp(self.mean - self.slope * float(self.x.mean())), exponent=-self.slope)

    @property
    def residuals(self) -> np.ndarray:
        return self.y - self.mean - self.slope * self.centred


def _intervals(
    line: _Line, at: np.ndarray, seed: int, confidence: float
) -> tuple[tuple[float, float], tuple[np.ndarray, np.ndarray]]:
    """Of the slope, and of the line at the logarithms `at` [M]."""
    count, places = len(line.x), at - line.x.mean()
    scatter = math.sqrt(float(np.square(line.residuals).sum()) / (count - 2))
    centre = line.mean + line.slope * places
    # how much of a residual the line has taken away by leaning towards it
    leverage = 1 / count + np.square(line.centred) / line.spread
    residuals = line.residuals / np.sqrt(1 - leverage)
    residuals -= residuals.mean()
    drawn = residuals[np.random.default_rng(seed).integers(0, count, (DRAWS, count))]
    means, slopes = drawn.mean(1), drawn @ line.centred / line.spread
    rest = drawn - means[:, None] - slopes[:, None] * line.centred
    scatters = np.sqrt(np.square(rest).sum(1) / (count - 2))
    kept = scatters > NO_SCATTER * scatter
    if not kept.any():  # every run lies on the line
        return (line.slope, line.slope), (centre, centre.copy())
    means, slopes, scatters = means[kept], slopes[kept], scatters[kept]
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = np.quantile(slopes / scatters, tails)
    # per unit of scatter: the standard error of the line at each place
    width = np.sqrt(1 / count + np.square(places) / line.spread)
    ratios = (means[:, None] + slopes[:, None] * places) / (scatters[:, None] * width)
    band_low, band_high = np.quantile(ratios, tails, axis=0) if len(places) else (places, places)
    return (
        (line.slope - float(high) * scatter, line.slope - float(low) * scatter),
        (centre - band_high * width * scatter, centre - band_low * width * scatter),
    )


def _logarithms(amounts: Sequence[float], errors: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(amounts, np.float64), np.asarray(errors, np.float64)
    assert x.shape == y.shape and x.ndim == 1, f"amounts {x.shape} and errors {y.shape} must be two lists of one length"
    for name, values in (("amount", x), ("error", y)):
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise UserError(
                f"the {name} {wrong[0]:g} is not above 0: a power law has no such value, leave that run out"
            )
    if len(set(x.tolist())) < 2:
        raise UserError("a power law takes different amounts of data, all of these are equal: add another amount")
    return np.log(x), np.log(y)
