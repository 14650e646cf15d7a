"""The last look at an action chunk before it goes to a robot: finite, inside the limits, no faster than the joints.

Two ways to hold a limit. `clamp` moves a value to the nearest one that is allowed and counts it; `reject` sends nothing
when a value breaks a limit, for a robot whose operator prefers a stop to a movement that the policy did not mean.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from components.endpoint.bounds import Bounds
from components.endpoint.contract import Contract
from components.endpoint.errors import UnsafeAction

GuardMode = Literal["clamp", "reject"]
GUARD_MODES: tuple[str, ...] = get_args(GuardMode)


@dataclass(frozen=True, kw_only=True)
class Guarded:
    actions: np.ndarray  # f32 [T,A], finite, inside the limits
    clipped: int  # values that were outside a position limit
    slowed: int  # values that were further from the one before than the joint moves in a step


def guard(
    actions: np.ndarray, contract: Contract, *, state: np.ndarray | None = None, mode: GuardMode = "clamp"
) -> Guarded:
    """Holds a chunk [T,A] to the contract.

    Args:
        actions: as the policy gave them, robot units.
        contract: whose limits; infinite where a robot's file has none.
        state: f32 [S], measured at the observation: the first action is held against it, where the joint has a name in
            the state.
        mode: what happens to a value outside a limit.

    Raises:
        UnsafeAction: when the shape is wrong or a value is not finite, as there is no safe value to put instead; with
            mode "reject" also when a value is outside a limit.
    """
    expected = (contract.horizon, len(contract.action))
    if actions.shape != expected:
        raise UnsafeAction(
            f"the policy answered with shape {actions.shape} instead of {expected}: nothing was sent", reason="shape"
        )
    if not np.isfinite(actions).all():
        raise UnsafeAction(
            "the policy answered with values that are not finite: nothing was sent",
            reason="not_finite",
            values=int((~np.isfinite(actions)).sum()),
        )
    bounds = contract.bounds
    inside = bounds.clamp(actions).astype(np.float32, copy=False)
    clipped = slowed = 0
    if (inside != actions).any():  # by a rounding perhaps, which is no violation
        outside = (actions < bounds.low) | (actions > bounds.high)
        clipped = int(outside.sum())
        if mode == "reject":
            _reject(outside, "position", contract)
    start = _start(inside, bounds, state)
    too_fast = np.abs(inside - np.concatenate([start[None], inside[:-1]])) > bounds.jump
    if too_fast.any():
        slowed = int(too_fast.sum())
        if mode == "reject":
            _reject(too_fast, "velocity", contract)
        inside = _slowed(inside, start, bounds)
    return Guarded(actions=inside, clipped=clipped, slowed=slowed)


def _reject(broken: np.ndarray, limit: str, contract: Contract) -> None:
    if broken.any():
        names = [contract.action[joint] for joint in np.flatnonzero(broken.any(axis=0))]
        raise UnsafeAction(
            f"the policy's actions break the {limit} limit of {', '.join(names)}: nothing was sent",
            reason=limit,
            values=int(broken.sum()),
        )


def _start(actions: np.ndarray, bounds: Bounds, state: np.ndarray | None) -> np.ndarray:
    """Where the joints are, [A]; where that is not known, where the first action wants them.

    A joint that is measured outside its limits starts at the limit: the way back is not the policy's fault.
    """
    if state is None:
        first: np.ndarray = actions[0]
        return first
    return np.where(bounds.measured, bounds.clamp(state[bounds.dimension]), actions[0])


def _slowed(actions: np.ndarray, start: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Each action as near to the policy's as the joints get from the one before. It stays inside the position limits,
    since it lies between two values that are."""
    slowed = np.empty_like(actions)
    slowed[0] = np.clip(actions[0], start - bounds.lead, start + bounds.lead)
    for time in range(1, len(actions)):
        slowed[time] = np.clip(actions[time], slowed[time - 1] - bounds.step, slowed[time - 1] + bounds.step)
    return slowed
