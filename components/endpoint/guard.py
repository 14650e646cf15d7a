"""The last look at an action chunk before it goes to a robot."""

from dataclasses import dataclass

import numpy as np

from components.endpoint.contract import Contract
from components.endpoint.errors import UnsafeAction

# Rounding of a float32 normalisation at a joint's limit is no violation worth counting.
_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Guarded:
    actions: np.ndarray  # f32 [T,A], finite, inside the limits
    clipped: int  # values that were outside


def guard(actions: np.ndarray, contract: Contract) -> Guarded:
    """Holds a chunk [T,A] to the contract: its shape, finite, and inside the joint limits of the robot's file.

    Raises:
        UnsafeAction: when the shape is wrong or a value is not finite. There is no safe value to put instead.
    """
    expected = (contract.horizon, len(contract.action))
    if actions.shape != expected:
        raise UnsafeAction(f"the policy answered with shape {actions.shape} instead of {expected}: nothing was sent")
    if not np.isfinite(actions).all():
        raise UnsafeAction("the policy answered with values that are not finite: nothing was sent")
    outside = (actions < contract.lower - _TOLERANCE) | (actions > contract.upper + _TOLERANCE)
    clipped = np.clip(actions, contract.lower, contract.upper).astype(np.float32)
    return Guarded(actions=clipped, clipped=int(outside.sum()))
