"""Success rate (SR) and progress score (PS) with 95% intervals, and the comparison of two policies on the same seeds.

SR is the fraction of trials that reached success within the time limit. PS is the fraction of the ordered checkpoints
that a trial passed, averaged over the trials (GM-100, SPEC_VLA section 4).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from model.errors import UserError
from model.evaluation.records import TrialRecord

CONFIDENCE = 0.95
BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Score:
    """SR and PS of one group of trials, with their 95% intervals (Wilson for SR, bootstrap over trials for PS)."""

    trials: int
    successes: int
    sr: float
    sr_low: float
    sr_high: float
    ps: float
    ps_low: float
    ps_high: float

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """SR of one policy minus SR of another on the same seeds.

    `low` and `high` are Newcombe's 95% interval, `bootstrap_low` and `bootstrap_high` the one from resampling seeds,
    `p` is the exact two-sided McNemar test. `only_first` and `only_second` count the seeds where one alone succeeded.
    """

    trials: int
    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    p: float
    only_first: int
    only_second: int

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), without continuity correction."""
    if trials < 1 or not 0 <= successes <= trials:
        raise UserError(f"{successes} successes of {trials} trials: 0 <= successes <= trials and trials >= 1 must hold")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At 0 and at n the formula is exact up to rounding: pin those ends so that no bound lies beyond the rate itself.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean; the same values and seed give the same interval."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise UserError("a mean needs at least one trial: there is none")
    drawn = np.random.default_rng(seed).integers(0, sample.size, size=(BOOTSTRAP_SAMPLES, sample.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample[drawn].mean(axis=1), (tail, 1 - tail))
    return float(low), float(high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar p-value from the discordant pairs: a binomial test of one half."""
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    smaller = min(only_first, only_second)
    tail = sum(math.comb(discordant, k) for k in range(smaller + 1))
    return min(1.0, 2 * tail / 2**discordant)


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95% interval of the difference of two paired proportions (Newcombe 1998, method 10).

    Squares and adds the two Wilson intervals, less what their correlation explains.
    """
    n = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    p1, p2 = first / n, second / n
    low1, high1 = wilson(first, n)
    low2, high2 = wilson(second, n)
    margins = first * (n - first) * second * (n - second)
    covariance = float(both * neither - only_first * only_second)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    phi = covariance / math.sqrt(margins) if margins else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    difference = p1 - p2
    return difference - reach(p1 - low1, high2 - p2), difference + reach(high1 - p1, p2 - low2)


def score(records: Sequence[TrialRecord], *, seed: int = 0) -> Score:
    """SR and PS of trials that belong together: one condition, one policy, one task."""
    if not records:
        raise UserError("there are no trials to score: run at least one")
    progress = [record.progress for record in records]
    successes = sum(record.success for record in records)
    sr_low, sr_high = wilson(successes, len(records))
    ps_low, ps_high = bootstrap_mean(progress, seed=seed)
    return Score(
        trials=len(records), successes=successes,
        sr=successes / len(records), sr_low=sr_low, sr_high=sr_high,
        ps=float(np.mean(progress)), ps_low=ps_low, ps_high=ps_high,
    )  # fmt: skip


def compare(first: Sequence[TrialRecord], second: Sequence[TrialRecord], *, seed: int = 0) -> PairedDifference:
    """SR of `first` minus SR of `second`; both must have run the same seeds, each once."""
    by_seed = [{record.seed: record.success for record in records} for records in (first, second)]
    for records, unique in zip((first, second), by_seed, strict=True):
        if len(unique) != len(records):
            raise UserError(f"{len(records) - len(unique)} seeds were run twice: a paired comparison needs each once")
    if by_seed[0].keys() != by_seed[1].keys() or not by_seed[0]:
        apart = len(by_seed[0].keys() ^ by_seed[1].keys())
        raise UserError(f"{apart} seeds were run by one policy alone: pair policies on the same seeds")
    seeds = sorted(by_seed[0])
    a = np.array([by_seed[0][s] for s in seeds])
    b = np.array([by_seed[1][s] for s in seeds])
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    low, high = newcombe_paired(int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()))
    difference = a.astype(float) - b.astype(float)
    bootstrap_low, bootstrap_high = bootstrap_mean(difference.tolist(), seed=seed)
    return PairedDifference(
        trials=len(seeds), difference=float(difference.mean()), low=low, high=high,
        bootstrap_low=bootstrap_low, bootstrap_high=bootstrap_high,
        p=mcnemar_exact(only_first, only_second), only_first=only_first, only_second=only_second,
    )  # fmt: skip
