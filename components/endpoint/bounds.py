"""A robot's limits in the form in which every answer is held against them: computed once a contract."""

from dataclasses import dataclass

import numpy as np

# Rounding of a float32 normalisation at a joint's limit is no violation worth counting.
_TOLERANCE = 1e-4
# A position target leads the measured joint by what its controller lags behind, about a tenth of a second: the first
# action may be as far from the measured state as the joint moves in this time.
_LEAD_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Bounds:
    """Arrays in robot units, infinite where a limit is unknown.

    Attributes:
        lower, upper: [A], what a value is clamped to.
        low, high: [A], beyond which it counts as outside.
        lead: [A], how far the first action may be from the measured joint.
        step: [A], how far a joint moves in one step.
        jump: [T,A], beyond which an action counts as too far from the one before; in its first row from the joint.
        measured: bool [A], whether the state has a dimension of this name.
        dimension: int [A], that dimension; 0 where there is none.
    """

    lower: np.ndarray
    upper: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lead: np.ndarray
    step: np.ndarray
    jump: np.ndarray
    measured: np.ndarray
    dimension: np.ndarray

    @classmethod
    def of(
        cls,
        lower: np.ndarray,
        upper: np.ndarray,
        velocity: np.ndarray,
        state_of_action: np.ndarray,
        *,
        horizon: int,
        hertz: float,
    ) -> "Bounds":
        """From a contract's fields of the same names."""
        lead, step = velocity * max(_LEAD_SECONDS, 1.0 / hertz), velocity / hertz
        return cls(
            lower=lower,
            upper=upper,
            low=lower - _TOLERANCE,
            high=upper + _TOLERANCE,
            lead=lead,
            step=step,
            jump=np.concatenate([lead[None], np.repeat(step[None], horizon - 1, axis=0)]) + _TOLERANCE,
            measured=state_of_action >= 0,
            dimension=np.maximum(state_of_action, 0),
        )

    def clamp(self, values: np.ndarray) -> np.ndarray:
        """The nearest values [..., A] inside the limits; NaN stays."""
        clamped: np.ndarray = np.minimum(np.maximum(values, self.lower), self.upper)
        return clamped
