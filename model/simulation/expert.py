"""A scripted expert: from the objects' poses to a trajectory of joint targets.

The way-points of `model.simulation.motions` become joint angles by inverse kinematics at every action; minimum-jerk
profiles make the speed smooth. Experts may know where the objects are; policies may not.
"""

from collections.abc import Mapping

import numpy as np

from model.simulation.kinematics import Kinematics
from model.simulation.motions import Move, Phase, motion
from model.simulation.objects import draw_objects
from model.simulation.scene import ARMS, HOME, HOME_FINGER, build_model, finger_to_opening
from model.simulation.tasks import find_task

HOME_OPENING = float(finger_to_opening(HOME_FINGER))


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
        return self._sample(self._phases(*self._drawn(seed)))

    def plan_for(self, places: Mapping[str, np.ndarray], pace: np.ndarray) -> np.ndarray:
        """Actions float32 [T, 14] for objects at `places` (metres), phase i lasting `pace[i]` times its length."""
        return self._sample(self._phases(places, pace))

    def phases(self, seed: int) -> list[tuple[float, float, bool]]:
        """Start and end (seconds) of each phase of `plan(seed)`, and whether anything moves in it.

        The truth that a segmentation of the demonstration can be held against.
        """
        spans, begin = [], 0.0
        for phase in self._phases(*self._drawn(seed)):
            spans.append((begin, begin + phase.seconds, bool(phase.moves or phase.grippers)))
            begin += phase.seconds
        return spans

    def _drawn(self, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Places of the objects and pace of the phases in the scene of `seed`."""
        rng = np.random.default_rng((seed, 1))
        places = {name: pose[:3] for name, pose in draw_objects(self.task.scene, seed).items()}
        return places, rng.uniform(0.9, 1.1, size=16)

    def _phases(self, places: Mapping[str, np.ndarray], pace: np.ndarray) -> list[Phase]:
        phases = motion(self.task.name, places)
        assert len(phases) <= len(pace), f"{self.task.name} has {len(phases)} phases, but the pace of {len(pace)}"
        return [
            Phase(seconds=phase.seconds * factor, moves=phase.moves, grippers=phase.grippers)
            for phase, factor in zip(phases, pace, strict=False)
        ]

    def _sample(self, phases: list[Phase]) -> np.ndarray:
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

    def _path(self, move: Move, start: np.ndarray, fractions: np.ndarray) -> np.ndarray:
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


def _ticks(begin: float, end: float, fps: int) -> np.ndarray:
    """Times of the actions that fall in (begin, end]: multiples of 1/fps."""
    first, last = int(np.floor(begin * fps + 1e-9)) + 1, int(np.floor(end * fps + 1e-9))
    return np.arange(first, last + 1) / fps


def _minimum_jerk(s: np.ndarray) -> np.ndarray:
    return s**3 * (10 - 15 * s + 6 * s**2)


def _slerp(a: np.ndarray, b: np.ndarray, s: float) -> np.ndarray:
    dot = float(a @ b)
    if dot < 0:
        b, dot = -b, -dot
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-6:
        return b
    return (np.sin((1 - s) * angle) * a + np.sin(s * angle) * b) / np.sin(angle)
