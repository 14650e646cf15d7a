"""Hindsight goals: where the robot's own gripper will next close, from the robot's own record.

The label needs no simulator and no person: the commanded (or measured) gripper opening says when a gripper closes, the
recorded end-effector pose says where it was then. A policy that must predict it from images alone cannot copy the arm's
state instead of looking (DESIGN section 4).
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.robots import Robot

# Hysteresis on the opening (0 closed, 1 open): noise around one threshold must not count as closing twice.
CLOSED_BELOW = 0.4
OPEN_ABOVE = 0.6
# observation.eef_pose: left xyz + quaternion, then right
POSITION_OF_SIDE = {"left": slice(0, 3), "right": slice(7, 10)}


def closing_frames(
    opening: np.ndarray, closed_below: float = CLOSED_BELOW, open_above: float = OPEN_ABOVE
) -> np.ndarray:
    """Frames int64 [K] of closing: the opening [L] falls below `closed_below` after being above `open_above`.

    A gripper that starts closed has not closed until it has been open.
    """
    assert opening.ndim == 1 and closed_below < open_above
    state = np.where(opening > open_above, 1, np.where(opening < closed_below, -1, 0))
    decided = np.flatnonzero(state)
    if not len(decided):
        return decided
    falls = (state[decided][1:] == -1) & (state[decided][:-1] == 1)
    return decided[1:][falls]


def opening_frames(
    opening: np.ndarray, closed_below: float = CLOSED_BELOW, open_above: float = OPEN_ABOVE
) -> np.ndarray:
    """Frames int64 [K] of opening: the opening [L] rises above `open_above` after being below `closed_below`."""
    return closing_frames(1 - opening, 1 - open_above, 1 - closed_below)


def hindsight_goals(opening: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each frame, where the gripper that next closes is when it does.

    Args:
        opening: [L, G] of G grippers, 0 closed to 1 open.
        position: [L, G, 3] of the grippers, metres, world frame.

    Returns:
        goal float32 [L, 3] (zero where there is none) and mask bool [L]: False where no gripper closes later than that
        frame. Two grippers that close in one frame give the first of them.
    """
    assert position.shape == (*opening.shape, 3), f"opening {opening.shape} and position {position.shape} do not fit"
    length = len(opening)
    closings = sorted((frame, gripper) for gripper, column in enumerate(opening.T) for frame in closing_frames(column))
    goal = np.zeros((length, 3), np.float32)
    mask = np.zeros(length, bool)
    start = 0
    for frame, gripper in closings:
        goal[start:frame] = position[frame, gripper]
        mask[start:frame] = True
        start = max(start, frame)
    return goal, mask


def gripper_side(robot: "Robot", dim: int) -> str | None:
    """`left` or `right` for a gripper dimension, by its canonical slot or else by its name; None when neither says.

    None too for a gripper whose closed and open values are unverified: nothing tells there when it closes.
    """
    if dim not in robot.calibrated_gripper_dims:
        return None
    if robot.layout == "canonical":
        return {14: "left", 15: "right"}.get(robot.action_slots[dim])
    name = robot.action_names[dim].lower()
    return next((side for side in POSITION_OF_SIDE if side in name), None)
