"""The last look at an action chunk before it goes to a robot: finite, inside the limits, no faster than the joints.

Two ways to hold a limit. `clamp` moves a value to the nearest one that is allowed and counts it; `reject` sends nothing
when a value breaks a limit, for a robot whose operator prefers a stop to a movement that the policy did not mean.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from components.endpoint.contract import Contract
from components.endpoint.errors import UnsafeAction

GuardMode = Literal["clamp", "reject"]
GUARD_MODES: tuple[str, ...] = get_args(GuardMode)
# Rounding of a float32 normalisation at a joint's limit is no violation worth counting.
_TOLERANCE = 1e-4
# A position target leads the measured joint by what its controller lags behind, about a tenth of a second: the first
# action may be as far from the measured state as the joint moves in this time.
_LEAD_SECONDS = 0.1


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
    outside = (actions < contract.lower - _TOLERANCE) | (actions > contract.upper + _TOLERANCE)
    inside = np.clip(actions, contract.lower, contract.upper).astype(np.float32)
    too_fast = _too_fast(inside, contract, state)
    if mode == "reject":
        _reject(outside, "position", contract)
        _reject(too_fast, "velocity", contract)
    if too_fast.any():
        inside = _slowed(inside, contract, state)
    return Guarded(actions=inside, clipped=int(outside.sum()), slowed=int(too_fast.sum()))


def _reject(broken: np.ndarray, limit: str, contract: Contract) -> None:
    if broken.any():
        names = [contract.action[joint] for joint in np.flatnonzero(broken.any(axis=0))]
        raise UnsafeAction(
            f"the policy's actions break the {limit} limit of {', '.join(names)}: nothing was sent",
            reason=limit,
            values=int(broken.sum()),
        )


def _start(contract: Contract, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Where the joints are, [A], NaN where that is not known, and how far the first action may be from there, [A].

    A joint that is measured outside its limits starts at the limit: the way back is not the policy's fault.
    """
    measured = np.full(len(contract.action), np.nan, dtype=np.float32)
    if state is not None:
        known = contract.state_of_action >= 0
        measured[known] = state[contract.state_of_action[known]]
    lead = contract.velocity * max(_LEAD_SECONDS, 1.0 / contract.control_hz)
    return np.clip(measured, contract.lower, contract.upper), lead


def _too_fast(actions: np.ndarray, contract: Contract, state: np.ndarray | None) -> np.ndarray:
    """bool [T,A]: further from the one before than the joint moves in a step."""
    start, lead = _start(contract, state)
    far = np.zeros(actions.shape, dtype=bool)
    with np.errstate(invalid="ignore"):  # NaN compares as not too far
        far[0] = np.abs(actions[0] - start) > lead + _TOLERANCE
    far[1:] = np.abs(np.diff(actions, axis=0)) > contract.velocity / contract.control_hz + _TOLERANCE
    return far


def _slowed(actions: np.ndarray, contract: Contract, state: np.ndarray | None) -> np.ndarray:
    """Each action as near to the policy's as the joints get from the one before. It stays inside the position limits,
    since it lies between two values that are."""
    start, lead = _start(contract, state)
    step = contract.velocity / contract.control_hz
    slowed = np.empty_like(actions)
    known = ~np.isnan(start)
    slowed[0] = np.where(known, np.clip(actions[0], start - lead, start + lead), actions[0])
    for time in range(1, len(actions)):
        slowed[time] = np.clip(actions[time], slowed[time - 1] - step, slowed[time - 1] + step)
    return slowed
