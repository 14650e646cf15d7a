"""What is known of an embodiment.

A robot is a list of joint groups in the order of its datasets' state and action vectors. A group takes consecutive
slots of the canonical 75-dim vector (DESIGN section 6; SPEC_VLA section 1.12 has the released part, 0 to 29). A figure
that no public source gives is `unverified`: None here, NaN in arrays, and nothing may be derived from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CANONICAL_DIM = 75
ROLES = ("high", "left_wrist", "right_wrist")  # the order in which the policy takes its views
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Joint:
    """One dimension. Limits are in the group's unit, the velocity in that unit per second; None is unverified."""

    name: str
    limits: tuple[float, float] | None = None
    velocity_limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Joints that belong together. `slot` is the slot of the first one; `closed` and `open` are a gripper's values."""

    name: str
    kind: str
    unit: str
    slot: int
    joints: tuple[Joint, ...]
    closed: float | None = None
    open: float | None = None


@dataclass(frozen=True, kw_only=True)
class Robot:
    """An embodiment: names, cameras, limits and its places in the policy's vector.

    Attributes:
        cameras: role -> dataset key after `observation.images.`, in the order of `ROLES`; absent views are left out.
        layout: 'canonical' (slots by joint group) or 'raw' (the dataset's own order from slot 0).
        groups: the action's joints in order; the state has the same unless `state_names` says otherwise.
        state_slots, action_slots: robot dimension -> index in the 75-dim vector.
        control_hz: the rate at which actions are meant to be executed.
        action_mode: 'absolute' joint targets or 'relative' to the state.
        simulator: what evaluates it in closed loop, or None.
    """

    id: str
    aliases: tuple[str, ...]
    cameras: Mapping[str, str]
    layout: str
    groups: tuple[Group, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    state_slots: tuple[int, ...]
    action_slots: tuple[int, ...]
    control_hz: float
    action_mode: str = "absolute"
    simulator: str | None = None
    description: str = ""
    source: str = ""

    @property
    def limits(self) -> np.ndarray:
        """Float64 [A, 2], lowest and highest; NaN where unverified."""
        rows = [joint.limits or (NAN, NAN) for group in self.groups for joint in group.joints]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    @property
    def velocity_limits(self) -> np.ndarray:
        """Float64 [A], unit per second; NaN where unverified."""
        found = [joint.velocity_limit for group in self.groups for joint in group.joints]
        return np.array([NAN if value is None else value for value in found], dtype=np.float64)

    @property
    def gripper_dims(self) -> tuple[int, ...]:
        """Action dimensions that open and close a gripper, in the robot's order."""
        names = {joint.name for group in self.groups if group.kind == "gripper" for joint in group.joints}
        return tuple(dim for dim, name in enumerate(self.action_names) if name in names)

    def gripper_range(self, dim: int) -> tuple[float, float]:
        """The values of gripper dimension `dim` when closed and when open."""
        for group in self.groups:
            if group.kind == "gripper" and self.action_names[dim] in {joint.name for joint in group.joints}:
                assert group.closed is not None and group.open is not None
                return group.closed, group.open
        raise AssertionError(f"dimension {dim} of {self.id} is no gripper: {self.gripper_dims}")

    def opening(self, dim: int, values: np.ndarray) -> np.ndarray:
        """Values of gripper dimension `dim` as an opening, 0 closed to 1 open."""
        closed, opened = self.gripper_range(dim)
        return (values - closed) / (opened - closed)
