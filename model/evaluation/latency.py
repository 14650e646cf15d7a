"""Time from a look to its chunk, as the client measured it: of one trial, and of trials together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.evaluation.records import Latency, TrialRecord


def latency_of(milliseconds: Sequence[float]) -> Latency | None:
    """Of one trial's looks; None when none was measured."""
    if not milliseconds:
        return None
    median, p99 = (round(float(value), 3) for value in np.percentile(milliseconds, (50, 99)))
    return Latency(median=median, p99=p99)


def client_latency(records: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Of many trials: the median of their medians and the largest of their 99th percentiles; None when none has any.

    `trials` is how many of them have one: trials in process have none.
    """
    measured = [record.client_latency_ms for record in records if record.client_latency_ms is not None]
    if not measured:
        return None
    return {
        "trials": len(measured),
        "median": round(float(np.median([each.median for each in measured])), 3),
        "p99": max(each.p99 for each in measured),
    }
