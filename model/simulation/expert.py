"""A scripted expert: from the cube's pose to a trajectory of joint targets.

Cartesian way-points of a gripper (approach, descend, close, lift, hand over) become joint angles by inverse kinematics
at every action; minimum-jerk profiles make the speed smooth. Experts may know where the cube is; policies may not.
"""

from dataclasses import dataclass

import numpy as np

from model.simulation.kinematics import Kinematics
from model.simulation.scene import ARMS, HOME, HOME_FINGER, build_model, finger_to_opening
from model.simulation.tasks import Task, draw_cube, find_task

PITCH = np.deg2rad(60.0)
"""How far the gripper looks down when it picks. Straight down would put the far side of the range out of reach."""
ABOVE = 0.10
LIFT = 0.13
GRASP_HEIGHT = 0.018
"""Heights of the point between the finger pads over the table (grasp) or over the grasp (above, lift). Metres."""
OPEN = 1.0
CLOSED = 0.0
HOME_OPENING = float(finger_to_opening(HOME_FINGER))
MEETING = np.array([0.0, 0.5, 0.25])
"""Where the cube changes hands in `transfer`. Metres, world frame."""
TAKE_OFFSET = np.array([0.01, 0.0, 0.0])
"""Where the left gripper takes it, from there: 1 cm over the middle, so that its pads cover the cube."""


@dataclass(frozen=True, kw_only=True)
class _Move:
    """One arm's part of a phase: to a pose of the gripper, along a straight line or through the joints."""

    arm: str
    position: np.ndarray
    quaternion: np.ndarray
    straight: bool


@dataclass(frozen=True, kw_only=True)
class _Phase:
    """`seconds` of motion; grippers go to their opening at once, arms without a move stay."""

    seconds: float
    moves: tuple[_Move, ...] = ()
    grippers: tuple[tuple[str, float], ...] = ()


class Expert:
    """Plans demonstrations. Deterministic: a seed gives one scene and one timing.

    Args:
        task: a name of `TASKS`.
        fps: actions a second.
    """

    def __init__(self, task: str, *, fps: int = 10) -> None:
        self.task = find_task(task)
        self.fps = fps
        self._kinematics = Kinematics(build_model(16))

    def plan(self, seed: int) -> np.ndarray:
        """Actions float32 [T, 14] for the scene of `seed`: absolute joint targets, in the order of `NAMES`.

        The duration of each phase varies by up to 10% with the seed, so that time alone does not tell what to do.
        """
        rng = np.random.default_rng((seed, 1))
        cube = draw_cube(seed)[:3]
        return self.plan_for(cube, rng.uniform(0.9, 1.1, size=16))

    def plan_for(self, cube: np.ndarray, pace: np.ndarray) -> np.ndarray:
        """Actions float32 [T, 14] for a cube at `cube` (metres), with phase i lasting `pace[i]` times its length."""
        phases = _lift(self.task, cube) if self.task.picks == self.task.keeps else _transfer(cube)
        paced = [
            _Phase(seconds=phase.seconds * factor, moves=phase.moves, grippers=phase.grippers)
            for phase, factor in zip(phases, pace, strict=False)
        ]
        return self._sample(paced)

    def _sample(self, phases: list[_Phase]) -> np.ndarray:
        joints = {arm: HOME.copy() for arm in ARMS}
        opening = dict.fromkeys(ARMS, HOME_OPENING)
        actions: list[np.ndarray] = []
        begin = 0.0
        for phase in phases:
            end = begin + phase.seconds
            times = _ticks(begin, end, self.fps)
            opening.update(phase.grippers)
            paths = {
                move.arm: self._path(move, joints[move.arm], (times - begin) / phase.seconds) for move in phase.moves
            }
            for index in range(len(times)):
                now = {arm: paths[arm][index] if arm in paths else joints[arm] for arm in ARMS}
                actions.append(np.concatenate([part for arm in ARMS for part in (now[arm], [opening[arm]])]))
            for arm, path in paths.items():
                joints[arm] = path[-1]
            begin = end
        return np.stack(actions).astype(np.float32)

    def _path(self, move: _Move, start: np.ndarray, fractions: np.ndarray) -> np.ndarray:
        """Joints [len(fractions) + 1, 6]: at each fraction of the phase, and at its end."""
        smooth = _minimum_jerk(np.append(fractions, 1.0))
        if not move.straight:
            goal = self._kinematics.inverse(move.arm, move.position, move.quaternion, start)
            return start + smooth[:, None] * (goal - start)
        begin, orientation = self._kinematics.forward(move.arm, start)
        path, joints = [], start
        for s in smooth:
            quaternion = _slerp(orientation, move.quaternion, s)
            joints = self._kinematics.inverse(move.arm, begin + s * (move.position - begin), quaternion, joints)
            path.append(joints)
        return np.stack(path)


def look_down(arm: str, pitch: float, yaw: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Orientation (wxyz) of the gripper of `arm` reaching to the middle: `pitch` down, `yaw` about the vertical."""
    heading = yaw if arm == "left" else yaw + np.pi
    about_z = np.array([np.cos(heading / 2), 0.0, 0.0, np.sin(heading / 2)])
    about_y = np.array([np.cos(pitch / 2), 0.0, np.sin(pitch / 2), 0.0])
    about_x = np.array([np.cos(roll / 2), np.sin(roll / 2), 0.0, 0.0])
    return _multiply(_multiply(about_z, about_y), about_x)


def _pick(arm: str, cube: np.ndarray) -> list[_Phase]:
    down = look_down(arm, PITCH)
    grasp = np.array([cube[0], cube[1], GRASP_HEIGHT])
    above = grasp + (0.0, 0.0, ABOVE)
    return [
        _Phase(
            seconds=1.2,
            moves=(_Move(arm=arm, position=above, quaternion=down, straight=False),),
            grippers=((arm, OPEN),),
        ),
        _Phase(seconds=0.8, moves=(_Move(arm=arm, position=grasp, quaternion=down, straight=True),)),
        _Phase(seconds=0.5, grippers=((arm, CLOSED),)),
    ]


def _lift(task: Task, cube: np.ndarray) -> list[_Phase]:
    arm = task.picks
    up = np.array([cube[0], cube[1], GRASP_HEIGHT + LIFT])
    return [
        *_pick(arm, cube),
        _Phase(seconds=0.8, moves=(_Move(arm=arm, position=up, quaternion=look_down(arm, PITCH), straight=True),)),
        _Phase(seconds=0.5),
    ]


def _transfer(cube: np.ndarray) -> list[_Phase]:
    """The right arm picks and brings the cube to the middle; the left arm comes level from its side and takes it.

    The left gripper is rolled by a quarter turn, so that its fingers close on the faces that are free.
    """
    down, level = look_down("right", PITCH), look_down("left", 0.0, roll=np.pi / 2)
    up = np.array([cube[0], cube[1], GRASP_HEIGHT + LIFT])
    wait = MEETING - (0.12, 0.0, 0.0)
    take = MEETING + TAKE_OFFSET
    back = MEETING + 0.12 * np.array([np.cos(PITCH), 0.0, np.sin(PITCH)])
    return [
        *_pick("right", cube),
        _Phase(seconds=0.8, moves=(_Move(arm="right", position=up, quaternion=down, straight=True),)),
        _Phase(
            seconds=1.2,
            moves=(
                _Move(arm="right", position=MEETING, quaternion=down, straight=True),
                _Move(arm="left", position=wait, quaternion=level, straight=False),
            ),
            grippers=(("left", OPEN),),
        ),
        _Phase(seconds=0.4),
        _Phase(seconds=0.9, moves=(_Move(arm="left", position=take, quaternion=level, straight=True),)),
        _Phase(seconds=0.5, grippers=(("left", CLOSED),)),
        _Phase(seconds=0.5, grippers=(("right", OPEN),)),
        _Phase(
            seconds=0.8,
            moves=(_Move(arm="right", position=back, quaternion=down, straight=True),),
        ),
        _Phase(seconds=0.4),
    ]


def _ticks(begin: float, end: float, fps: int) -> np.ndarray:
    """Times of the actions that fall in (begin, end]: multiples of 1/fps."""
    first, last = int(np.floor(begin * fps + 1e-9)) + 1, int(np.floor(end * fps + 1e-9))
    return np.arange(first, last + 1) / fps


def _minimum_jerk(s: np.ndarray) -> np.ndarray:
    return s**3 * (10 - 15 * s + 6 * s**2)


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w, x, y, z = a
    return np.array(
        [
            w * b[0] - x * b[1] - y * b[2] - z * b[3],
            w * b[1] + x * b[0] + y * b[3] - z * b[2],
            w * b[2] - x * b[3] + y * b[0] + z * b[1],
            w * b[3] + x * b[2] - y * b[1] + z * b[0],
        ]
    )


def _slerp(a: np.ndarray, b: np.ndarray, s: float) -> np.ndarray:
    dot = float(a @ b)
    if dot < 0:
        b, dot = -b, -dot
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-6:
        return b
    return (np.sin((1 - s) * angle) * a + np.sin(s * angle) * b) / np.sin(angle)
