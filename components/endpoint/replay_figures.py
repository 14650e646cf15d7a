"""How a candidate's answers to recorded observations differ from those that the robots got.

Differences are told in shares of each joint's own spread: 1 is the standard deviation of that joint's actions in the
recording. Radians of a wrist and the opening of a gripper can be averaged in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SCHEMA_VERSION = 1
_LEAST_SPREAD = 0.02  # robot units (rad, openings): of a joint that stands still, a wobble would be a huge share
_WORST = 5
_PERCENTILES = (50, 99)


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One observation answered twice: `sent` [T1,A] by who served, `own` [T2,A] by the candidate, as guarded.

    Attributes:
        number: of the look in its episode, from 0.
        start: f32 [A], where the joints were; NaN where the state does not say.
        again: [T2,A], the candidate with other noise; None when it was not asked again.
        sent_broken, own_broken: values beyond a position or velocity limit, before the guard.
        sent_ms, own_ms: of the model's call.
    """

    episode: str
    number: int
    start: np.ndarray
    sent: np.ndarray
    own: np.ndarray
    again: np.ndarray | None
    sent_broken: int
    own_broken: int
    sent_ms: float
    own_ms: float


def figures(looks: Sequence[Look], *, names: Sequence[str], control_hz: float) -> dict[str, Any]:
    """Divergence, jerk, jump, violations and latency of one or more looks.

    Args:
        looks: in the order in which they were recorded.
        names: of the joints [A].
        control_hz: actions a second.
    """
    spread = np.maximum(np.concatenate([look.sent for look in looks]).std(axis=0), _LEAST_SPREAD)
    apart = [_apart(look.sent, look.own) for look in looks]
    shares = np.array([float((one / spread).mean()) for one in apart])
    steps = min(len(one) for one in apart)
    by_joint = np.mean([one.mean(axis=0) for one in apart], axis=0)
    again = [float((_apart(look.again, look.own) / spread).mean()) for look in looks if look.again is not None]
    order = np.argsort(-shares, kind="stable")[:_WORST]
    return {
        "looks": len(looks),
        "episodes": len({look.episode for look in looks}),
        "divergence": {
            "mean": float(shares.mean()),
            "p95": float(np.percentile(shares, 95)),
            "own_noise": float(np.mean(again)) if again else None,
            "by_step": [float(np.mean([(one[step] / spread).mean() for one in apart])) for step in range(steps)],
            "by_joint": {name: float(value) for name, value in zip(names, by_joint, strict=True)},
            "spread": {name: float(value) for name, value in zip(names, spread, strict=True)},
            "worst": [
                {"episode": looks[i].episode, "look": looks[i].number, "divergence": float(shares[i])} for i in order
            ],
        },
        "jerk": _pair(
            [_jerk(look.sent / spread, control_hz) for look in looks],
            [_jerk(look.own / spread, control_hz) for look in looks],
        ),
        "jump": _pair(
            [_jump(look.sent, look.start, spread) for look in looks],
            [_jump(look.own, look.start, spread) for look in looks],
        ),
        "violations": {
            "recorded": sum(look.sent_broken for look in looks),
            "candidate": sum(look.own_broken for look in looks),
            "values": sum(look.own.size for look in looks),
        },
        "latency_ms": {
            "recorded": _percentiles([look.sent_ms for look in looks]),
            "candidate": _percentiles([look.own_ms for look in looks]),
        },
    }


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Absolute differences of the steps that both have."""
    steps = min(len(first), len(second))
    return np.abs(first[:steps].astype(np.float64) - second[:steps])


def _jerk(actions: np.ndarray, control_hz: float) -> float:
    """Root mean square of the third derivative of a chunk, a second cubed; 0 for a chunk under four steps."""
    third = np.diff(actions.astype(np.float64), n=3, axis=0)
    return float(np.sqrt(np.mean(third**2)) * control_hz**3) if third.size else 0.0


def _jump(actions: np.ndarray, start: np.ndarray, spread: np.ndarray) -> float:
    """How far the first action is from where the joints were."""
    known = ~np.isnan(start)
    return float((np.abs(actions[0] - start) / spread)[known].mean()) if known.any() else 0.0


def _pair(recorded: Sequence[float], candidate: Sequence[float]) -> dict[str, float | None]:
    before, after = float(np.mean(recorded)), float(np.mean(candidate))
    return {"recorded": before, "candidate": after, "ratio": after / before if before > 0 else None}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{at}": float(np.percentile(values, at)) for at in _PERCENTILES}
