"""The simulated tasks: instruction, ordered checkpoints, and the draw of scenes."""

from dataclasses import dataclass

import numpy as np

from model.errors import unknown_name
from model.simulation.scene import CUBE_HALF

CUBE_X = (-0.1, 0.1)
CUBE_Y = (0.4, 0.6)
"""Range of the cube's centre on the table, metres, world frame: both arms reach all of it."""
CLEARANCE = 0.03
"""A cube counts as lifted when its centre is this much above where it rests. Metres."""
HOLD_SECONDS = 0.2
"""The last checkpoint must hold this long without a break."""


@dataclass(frozen=True, kw_only=True)
class Contacts:
    """Who touches the cube at one control tick."""

    left: int
    """How many fingers of the left gripper touch the cube (0, 1, 2)."""
    right: int
    table: bool
    height: float
    """Height of the cube's centre above where it rests on the table. Metres."""

    @property
    def raised(self) -> bool:
        """Off the table, by `CLEARANCE` or more."""
        return not self.table and self.height >= CLEARANCE


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task. `checkpoints` are in order; the last one is the success, once held for `HOLD_SECONDS`."""

    name: str
    instruction: str
    checkpoints: tuple[str, ...]
    picks: str
    """The arm that takes the cube from the table."""
    keeps: str
    """The arm that has the cube in the end."""
    max_seconds: float

    def stage(self, contacts: Contacts) -> int:
        """Checkpoints reached at this instant, not counting the last one (which needs time): 0 to len - 1."""
        fingers = {"left": contacts.left, "right": contacts.right}
        picks, keeps = fingers[self.picks], fingers[self.keeps]
        if self.picks == self.keeps:
            passed: tuple[bool, ...] = (picks >= 1, picks == 2, picks == 2 and contacts.raised)
        else:
            passed = (
                picks >= 1,
                picks == 2 and contacts.raised,
                keeps >= 1 and contacts.raised,
                keeps == 2 and picks == 0 and contacts.raised,
            )
        return max((index + 1 for index, reached in enumerate(passed) if reached), default=0)


_LIFT = ("touched", "grasped", "lifted", "held")
_TRANSFER = ("touched", "lifted", "handed", "taken", "held")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="lift_right",
            instruction="lift the cube with the right arm",
            checkpoints=_LIFT,
            picks="right",
            keeps="right",
            max_seconds=6.0,
        ),
        Task(
            name="lift_left",
            instruction="lift the cube with the left arm",
            checkpoints=_LIFT,
            picks="left",
            keeps="left",
            max_seconds=6.0,
        ),
        Task(
            name="transfer",
            instruction="pick the cube with the right arm and hand it to the left arm",
            checkpoints=_TRANSFER,
            picks="right",
            keeps="left",
            max_seconds=10.0,
        ),
    )
}


def find_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        UserError: there is no such task; names the nearest one.
    """
    if name not in TASKS:
        raise unknown_name("simulated task", name, TASKS)
    return TASKS[name]


def draw_cube(seed: int) -> np.ndarray:
    """Pose of the cube [7] (metres, quaternion wxyz) in the scene of `seed`: the same for every task."""
    x, y = np.random.default_rng(seed).uniform((CUBE_X[0], CUBE_Y[0]), (CUBE_X[1], CUBE_Y[1]))
    return np.array([x, y, CUBE_HALF, 1.0, 0.0, 0.0, 0.0])
