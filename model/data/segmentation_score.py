"""How well cuts agree with others: boundary F1 within a tolerance, and the overlap (IoU) of segments.

Used against a truth (the scripted expert's phases) and between two reviewers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class BoundaryScore:
    """Counts of boundaries, added over episodes with `+`.

    Attributes:
        matched: pairs of one found and one true boundary within the tolerance; none is in two pairs.
        found, true: boundaries of each side.
        distance: sum over the pairs, seconds.
    """

    matched: int = 0
    found: int = 0
    true: int = 0
    distance: float = 0.0

    def __add__(self, other: "BoundaryScore") -> "BoundaryScore":
        return BoundaryScore(
            matched=self.matched + other.matched,
            found=self.found + other.found,
            true=self.true + other.true,
            distance=self.distance + other.distance,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where neither side has a boundary."""
        return 2 * self.matched / (self.found + self.true) if self.found + self.true else 1.0

    @property
    def mean_distance(self) -> float:
        """Seconds between the boundaries of a pair; NaN without pairs."""
        return self.distance / self.matched if self.matched else float("nan")


def boundaries(spans: Sequence[Span]) -> list[float]:
    """The different starts and ends of segments, in order."""
    return sorted({edge for span in spans for edge in span})


def score_boundaries(found: Sequence[float], true: Sequence[float], tolerance: float = 0.2) -> BoundaryScore:
    """Pairs found boundaries with true ones no further apart than `tolerance` seconds: as many pairs as can be had,
    and of those the ones that lie nearest."""
    distance = np.abs(np.subtract.outer(np.asarray(found, float), np.asarray(true, float)))
    if not distance.size:
        return BoundaryScore(found=len(found), true=len(true))
    inside = distance <= tolerance + 1e-9
    # a pair outside of the tolerance costs more than all others together, so as few as can be are taken
    cost = np.where(inside, distance, tolerance * (min(distance.shape) + 1) + 1.0)
    rows, columns = linear_sum_assignment(cost)
    kept = inside[rows, columns]
    return BoundaryScore(
        matched=int(kept.sum()),
        found=len(found),
        true=len(true),
        distance=float(distance[rows, columns][kept].sum()),
    )


def mean_iou(found: Sequence[Span], true: Sequence[Span]) -> float:
    """Mean over the true segments of the intersection over union with the best found one; 1 without any."""
    if not true:
        return 1.0
    return float(np.mean([max((_iou(one, other) for one in found), default=0.0) for other in true]))


def _iou(a: Span, b: Span) -> float:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return max(0.0, shared) / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0
