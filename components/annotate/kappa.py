"""Cohen's kappa (1960): agreement of two people's labels beyond that which their habits alone would bring about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.intervals import CONFIDENCE

Pairs = Mapping[tuple[str, str], int]  # (first's label, second's label) -> how often
SAMPLES = 2000  # of the bootstrap: the bounds move by about 0.01 between seeds
MIN_CLUSTERS = 5  # a bootstrap of fewer episodes says more than they show


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """Agreement on `items` labels.

    Attributes:
        value: kappa; None where both used one and the same label throughout, so that chance explains everything.
        low, high: 95% interval; None where there are too few episodes, or kappa is None.
        observed: share of the items with equal labels.
        expected: the share that chance would give, from how often each person uses each label.
    """

    value: float | None
    low: float | None
    high: float | None
    observed: float
    expected: float
    items: int


def cohen_kappa(episodes: Sequence[Pairs], seed: int = 0) -> Kappa | None:
    """Kappa over the labels of all episodes; None without any label.

    The interval is a bootstrap over whole episodes: the labels within one resemble each other.
    """
    names = sorted({name for pairs in episodes for both in pairs for name in both})
    number = {name: place for place, name in enumerate(names)}
    first, second = np.zeros((2, len(episodes), len(names)))
    equal = np.zeros(len(episodes))
    for place, pairs in enumerate(episodes):
        for (one, other), count in pairs.items():
            first[place, number[one]] += count
            second[place, number[other]] += count
            equal[place] += count * (one == other)
    items = float(first.sum())
    if not items:
        return None
    observed, expected = _shares(np.ones((1, len(episodes))), first, second, equal)
    low = high = None
    if expected[0] < 1 and len(episodes) >= MIN_CLUSTERS:
        weights = np.random.default_rng(seed).multinomial(len(episodes), [1 / len(episodes)] * len(episodes), SAMPLES)
        drawn, by_chance = _shares(weights, first, second, equal)
        defined = by_chance < 1
        values = (drawn[defined] - by_chance[defined]) / (1 - by_chance[defined])
        low, high = (float(bound) for bound in np.quantile(values, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]))
    return Kappa(
        value=float((observed[0] - expected[0]) / (1 - expected[0])) if expected[0] < 1 else None,
        low=low,
        high=high,
        observed=float(observed[0]),
        expected=float(expected[0]),
        items=int(items),
    )


def _shares(
    weights: np.ndarray, first: np.ndarray, second: np.ndarray, equal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Observed and expected share [B] of equal labels, with each episode counted `weights` [B, E] times.

    Args:
        first, second: [E, L], how often each person gave each label.
        equal: [E], labels that are equal.
    """
    of_first, of_second = weights @ first, weights @ second
    total = np.maximum(of_first.sum(1), 1)
    return weights @ equal / total, (of_first * of_second).sum(1) / total**2
