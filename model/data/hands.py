"""Hands as grippers: how far a hand of several fingers is open, in an episode.

A hand's file says where its joints are, not which posture holds something. A `normalized` hand runs from 0, closed, to
1, open, in every finger (as Unitree's Inspire interface has it). Of one in radians an episode itself tells: it begins
with an open hand, and the posture furthest from that is the grip. Both are scaled by the way that the hand goes in the
episode, as a grip around a bottle ends far from closed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.robots import Robot

HAND = "hand"
RIGHT_SLOT = 40  # canonical slots: 30-39 left hand, 40-49 right
LEAST_WAY = 0.15  # of the mean finger: its share of the range, or rad; a hand that goes less only trembles


def hand_dims(robot: "Robot") -> dict[str, tuple[int, ...]]:
    """Side -> action dimensions of its hand; none for a robot without hands, or without canonical slots."""
    if robot.layout != "canonical":
        return {}
    number = {name: dim for dim, name in enumerate(robot.action_names)}
    return {
        "right" if group.slot >= RIGHT_SLOT else "left": tuple(number[joint.name] for joint in group.joints)
        for group in robot.groups
        if group.kind == HAND
    }


def hand_opening(robot: "Robot", fingers: Sequence[int], values: np.ndarray) -> np.ndarray | None:
    """The opening [L] of a hand in an episode, 0 in its most closed posture to 1 in its most open one.

    Args:
        fingers: its action dimensions.
        values: [L, A] of commands or of measurements, in the robot's units.

    Returns:
        None for a hand that hardly moves.
    """
    posture = values[:, list(fingers)].astype(np.float64)
    names = {robot.action_names[dim] for dim in fingers}
    (unit,) = {group.unit for group in robot.groups if names & {joint.name for joint in group.joints}}
    if unit == "normalized":
        opening = posture.mean(1)
    else:
        opening = -np.sqrt(np.square(posture - posture[0]).mean(1))
    low, high = opening.min(), opening.max()
    return None if high - low < LEAST_WAY else (opening - low) / (high - low)
