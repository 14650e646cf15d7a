"""The dimensions of a robot's state and action by what they are, so that each check looks at those it fits."""

from dataclasses import dataclass

import numpy as np

from components.validate.thresholds import Thresholds
from model.data.lerobot import ACTION, STATE
from model.robots import Robot

HANDS = ("gripper", "hand")


@dataclass(frozen=True, kw_only=True)
class Column:
    """Dimensions of one column, `observation.state` or `action`.

    Attributes:
        names: of every dimension.
        radian: dimensions of joints in radian.
        arm: those of them that are no finger: they cannot jump.
        grippers: dimensions of grippers whose closed and open values are known.
        closed, opened: float64 [G], their values.
        limits: float64 [D, 2], NaN where unverified or a gripper's.
        velocity: float64 [D], the limit of each arm joint in rad/s.
    """

    names: tuple[str, ...]
    radian: np.ndarray
    arm: np.ndarray
    grippers: np.ndarray
    closed: np.ndarray
    opened: np.ndarray
    limits: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Joints:
    """The columns, and which dimensions of state and action are one joint (`pairs`: int [P, 2], arm joints alone)."""

    columns: dict[str, Column]
    pairs: np.ndarray
    gripper_pairs: np.ndarray
    velocity_verified: bool
    relative: bool


def joints_of(robot: Robot, thresholds: Thresholds) -> Joints:
    groups = {joint.name: (group, joint) for group in robot.groups for joint in group.joints}

    def column(names: tuple[str, ...], default: float) -> Column:
        found = [groups.get(name) for name in names]
        radian = [dim for dim, entry in enumerate(found) if entry is not None and entry[0].unit == "radian"]
        arm = [dim for dim in radian if found[dim][0].kind not in HANDS]  # type: ignore[index]
        grippers = [
            dim
            for dim, entry in enumerate(found)
            if entry is not None and entry[0].kind == "gripper" and entry[0].closed is not None
        ]
        limits = np.full((len(names), 2), np.nan)
        velocity = np.full(len(names), default)
        for dim, entry in enumerate(found):
            if entry is None or entry[0].kind == "gripper":
                continue
            limits[dim] = entry[1].limits or (np.nan, np.nan)
            if entry[1].velocity_limit is not None:
                velocity[dim] = entry[1].velocity_limit
        return Column(
            names=names,
            radian=np.array(radian, dtype=int),
            arm=np.array(arm, dtype=int),
            grippers=np.array(grippers, dtype=int),
            closed=np.array([found[dim][0].closed for dim in grippers], dtype=float),  # type: ignore[index]
            opened=np.array([found[dim][0].open for dim in grippers], dtype=float),  # type: ignore[index]
            limits=limits,
            velocity=velocity,
        )

    state = column(robot.state_names, thresholds["state_velocity"])
    action = column(robot.action_names, thresholds["action_velocity"])
    arms = [groups[action.names[dim]][1] for dim in action.arm]
    return Joints(
        columns={STATE: state, ACTION: action},
        pairs=_pairs(state, action, state.arm, action.arm),
        gripper_pairs=_pairs(state, action, state.grippers, action.grippers),
        velocity_verified=bool(arms) and all(joint.velocity_limit is not None for joint in arms),
        relative=robot.action_mode == "relative",
    )


def _pairs(state: Column, action: Column, dims: np.ndarray, others: np.ndarray) -> np.ndarray:
    place = {action.names[dim]: dim for dim in others}
    return np.array([(dim, place[state.names[dim]]) for dim in dims if state.names[dim] in place], dtype=int).reshape(
        -1, 2
    )
