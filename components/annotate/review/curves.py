"""The action curves of an episode: a panel an arm, one for the grippers or hands, and one for what is left."""

from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.segmentation import robot_arms

if TYPE_CHECKING:
    from model.robots import Robot

DIGITS = 4  # 0.1 mrad: far below a pixel of the curve


def panels(robot: "Robot", action: np.ndarray) -> list[dict[str, Any]]:
    """What is drawn: `name`, `unit` and the `series` (name and values) of each panel.

    Args:
        action: float32 [L, A] in the robot's units.
    """
    arms = robot_arms(robot)
    drawn = [
        _panel("robot" if arm.name == "robot" else f"{arm.name} arm", "rad", robot, action, arm.joints) for arm in arms
    ]
    grippers = tuple(robot.gripper_dims)
    if grippers:
        known = robot.calibrated_gripper_dims
        series = [
            _series(robot.action_names[dim], robot.opening(dim, action[:, dim]) if dim in known else action[:, dim])
            for dim in grippers
        ]
        drawn.append({"name": "grippers", "unit": "open" if set(known) == set(grippers) else "", "series": series})
    hands = [
        (f"{arm.name} hand", opening)
        for arm in arms
        if arm.fingers and (opening := arm.opening(robot, action)) is not None
    ]
    if hands:
        drawn.append({"name": "hands", "unit": "open", "series": [_series(*hand) for hand in hands]})
    shown = {dim for arm in arms for dim in arm.joints} | set(grippers)
    rest = tuple(dim for dim in range(action.shape[1]) if dim not in shown)
    return drawn + ([_panel("other", "", robot, action, rest)] if rest else [])


def _panel(name: str, unit: str, robot: "Robot", action: np.ndarray, dims: tuple[int, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "series": [_series(robot.action_names[dim], action[:, dim]) for dim in dims],
    }


def _series(name: str, values: np.ndarray) -> dict[str, Any]:
    return {"name": name, "values": np.asarray(values, np.float64).round(DIGITS).tolist()}
