"""Cutting an episode into atomic actions from the kinematics of its arms: no video, no model.

For each arm: gripper events first (a commanded closing or opening), then stretches of motion, cut where the speed dips.
The two arms' stretches are laid on one timeline. Static heads and tails are left out; a static stretch in between is a
hold or a wait. The paper's annotators cut by the same signs (SPEC_VLA section 4.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from model.data.goals import POSITION_OF_SIDE, gripper_side
from model.data.gripper_turns import CLOSE, OPEN, Turn, turns_of
from model.data.hands import HAND, hand_dims, hand_opening
from model.errors import UserError

if TYPE_CHECKING:
    from model.robots import Robot

SIDES = ("left", "right")
GRIPPER = "gripper"
WHOLE = "robot"  # the arm of a robot whose dimensions name no side
OPENING_RATE = 0.2  # openings a second; a gripper that changes less is at rest
VERTICAL_METRES = 0.03  # rise or fall of a held object that makes a move a lift or a lowering
VERTICAL_SHARE = 0.5  # of the way from start to end, for the same


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """Where to cut.

    Attributes:
        still_speed: an arm slower than this is at rest; norm of the joint velocity, rad/s.
        still_share: so is one slower than this share of its own fast motion (95th percentile) in the episode.
        dip: motion is cut where the speed falls below this share of the lower of the peaks on both sides.
        min_seconds: no segment is shorter.
        pause_seconds: a rest between two motions that is shorter is a cut, not a segment.
        smooth_seconds: standard deviation of the Gaussian over the speed.
        max_gripper_seconds: a gripper event ends after this, whatever the gripper does.
    """

    still_speed: float = 0.05
    still_share: float = 0.08
    dip: float = 0.5
    min_seconds: float = 0.25
    pause_seconds: float = 0.4
    smooth_seconds: float = 0.05
    max_gripper_seconds: float = 1.5

    def __post_init__(self) -> None:
        for name in ("still_speed", "min_seconds", "pause_seconds", "smooth_seconds", "max_gripper_seconds"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0.")
        for name in ("still_share", "dip"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it is a share, choose between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Dimensions of one arm: its joints, its gripper or its hand's fingers, and where eef_pose has its position."""

    name: str
    joints: tuple[int, ...]
    gripper: int | None = None
    fingers: tuple[int, ...] = ()

    @property
    def tool(self) -> str:
        """What it grips with, in words."""
        return HAND if self.fingers else GRIPPER

    @property
    def position(self) -> slice:
        """Columns of `observation.eef_pose`; only of an arm with a side."""
        return POSITION_OF_SIDE[self.name]

    def opening(self, robot: "Robot", values: np.ndarray) -> np.ndarray | None:
        """How far open [L] it is by `values` [L, A], 0 to 1; None where nothing tells (`hands.hand_opening`)."""
        if self.gripper is not None:
            return robot.opening(self.gripper, values[:, self.gripper])
        return hand_opening(robot, self.fingers, values) if self.fingers else None


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one arm does: an action of `ACTIONS`, from frame `start` to `end` (exclusive).

    `confidence` is a score in [0, 1] of the start and the end: how clear the sign was that they were cut by. `tool` is
    what the arm grips with.
    """

    arm: str
    action: str
    start: int
    end: int
    tool: str = GRIPPER
    confidence: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class AtomicSegment:
    """A stretch of the episode and what each arm does in it, the one that does most first; none: all is at rest.

    `confidences` are those of its start and its end, as of a `Part`.
    """

    start: int
    end: int
    parts: tuple[Part, ...]
    holding: tuple[str, ...]
    confidences: tuple[float, float]

    @property
    def confidence(self) -> float:
        """Of the less clear of its two ends."""
        return min(self.confidences)

    @property
    def arm(self) -> str:
        """`left`, `right`, `both`, `robot`, or "" when nothing moves."""
        names = {part.arm for part in self.parts}
        return "both" if len(names) > 1 else next(iter(names), "")

    @property
    def action(self) -> str:
        """The atomic action of the arm that does most."""
        if self.parts:
            return self.parts[0].action
        return "hold" if self.holding else "wait"


# what a part or a segment can be; `move` where the gripper's story tells no more
ACTIONS = (
    "approach", "reach", "close gripper", "lift", "lower", "carry", "open gripper", "retract", "move", "hold", "wait",
)  # fmt: skip


def robot_arms(robot: "Robot") -> tuple[Arm, ...]:
    """The arms of a robot, by its joint groups, or else by `left` and `right` in its names, or else one of all."""
    grippers = {gripper_side(robot, dim): dim for dim in robot.gripper_dims}
    number = {name: dim for dim, name in enumerate(robot.action_names)}
    joints: dict[str, tuple[int, ...]] = {}
    for group in robot.groups:
        if group.kind == "arm":
            side = SIDES[group.slot >= 7]
            joints[side] = tuple(number[joint.name] for joint in group.joints)
    if not joints:
        for side in SIDES:
            dims = (dim for name, dim in number.items() if side in name.lower() and dim not in robot.gripper_dims)
            if found := tuple(dims):
                joints[side] = found
    if not joints:
        joints[WHOLE] = tuple(dim for dim in number.values() if dim not in robot.gripper_dims)
    hands = {side: fingers for side, fingers in hand_dims(robot).items() if side not in grippers}
    return tuple(
        Arm(name=side, joints=dims, gripper=grippers.get(side), fingers=hands.get(side, ()))
        for side, dims in joints.items()
    )


def segment_episode(
    state: np.ndarray,
    action: np.ndarray,
    fps: float,
    robot: "Robot",
    eef_pose: np.ndarray | None = None,
    settings: SegmentationSettings | None = None,
) -> tuple[AtomicSegment, ...]:
    """Cut an episode.

    Args:
        state: float [L, S].
        action: float [L, A]; commands are free of the controller's lag, so cuts come from them (unless relative).
        fps: frames a second.
        robot: whose dimensions these are.
        eef_pose: float [L, 14] (left xyz + quaternion, right), to tell lifting and lowering from carrying.
        settings: thresholds.

    Returns:
        segments in order, without overlap; none for an episode in which nothing moves.
    """
    settings = settings or SegmentationSettings()
    commanded = action if robot.action_mode == "absolute" or state.shape != action.shape else state
    gap = max(1, round(settings.min_seconds * fps))
    parts: list[Part] = []
    speeds: dict[str, np.ndarray] = {}
    turns: dict[str, list[Turn]] = {}
    for arm in robot_arms(robot):
        speed = _smooth(_speed(commanded[:, list(arm.joints)], fps), settings.smooth_seconds * fps)
        speeds[arm.name] = speed
        still = max(settings.still_speed, settings.still_share * float(np.quantile(speed, 0.95)))
        turns[arm.name] = turns_of(arm.opening(robot, commanded), round(settings.pause_seconds * fps))
        events = _gripper_events(arm, robot, state, commanded, turns[arm.name], speed, still, fps, settings)
        moving = _moving(speed > still, events, round(settings.pause_seconds * fps))
        moves = _moves(arm.name, speed, moving, gap, settings.dip)
        parts += events + _name_moves(arm, moves, events, turns[arm.name], eef_pose)
    parts = _together(parts)
    cuts = _cuts(parts, gap)
    segments = []
    for (start, first), (end, second) in zip(cuts, cuts[1:], strict=False):
        inside = _acting(parts, start, end, speeds)
        holding = tuple(arm for arm in SIDES if _holds(turns.get(arm, ()), start))
        segments.append(AtomicSegment(start=start, end=end, parts=inside, holding=holding, confidences=(first, second)))
    while segments and not segments[-1].parts:
        segments.pop()
    return tuple(segments)


def _speed(values: np.ndarray, fps: float) -> np.ndarray:
    """Norm of the velocity [L] of commands [L, D]: in frame t the arm goes from command t - 1 to command t."""
    steps = np.linalg.norm(np.diff(values.astype(np.float64), axis=0), axis=1) * fps
    return np.concatenate([steps[:1], steps]) if len(steps) else np.zeros(len(values))


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of `sigma` frames; the ends are mirrored."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, reach, mode="symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _gripper_events(
    arm: Arm,
    robot: "Robot",
    state: np.ndarray,
    commanded: np.ndarray,
    turns: Sequence[Turn],
    speed: np.ndarray,
    still: float,
    fps: float,
    settings: SegmentationSettings,
) -> list[Part]:
    """Closings, and openings by an arm at rest (one that opens on its way does not stop for it), in order."""
    command = arm.opening(robot, commanded)
    if command is None:
        return []
    measured = arm.opening(robot, state) if state.shape == commanded.shape else None
    traces = [command] if measured is None else [command, measured]
    change = np.max([np.abs(np.diff(trace, append=trace[-1])) for trace in traces], axis=0) * fps
    events: list[Part] = []
    for frame, action in turns:
        if action == OPEN and speed[frame] > still:
            continue
        start = frame
        while start > 1 and abs(command[start - 1] - command[start - 2]) * fps > OPENING_RATE:
            start -= 1
        last = min(len(command), start + round(settings.max_gripper_seconds * fps))
        # the frame after counts too: smoothing spreads the end of the motion before over the event's first frame
        at_rest = speed[frame : frame + 2].min() <= still
        leaves = np.flatnonzero(speed[frame + 1 : last] > still)
        if at_rest and len(leaves):
            last = int(frame) + 1 + int(leaves[0])
        turning = np.flatnonzero(change[frame:last] > OPENING_RATE)
        settled = int(frame) + 1 + (int(turning[-1]) if len(turning) else 0)
        end = max(settled, min(last, start + round(settings.min_seconds * fps)))
        # the arm leaves a while after the gripper has settled: the grip is made sure of, which is no segment of its own
        waits = max(end + round(settings.pause_seconds * fps), start + round(settings.max_gripper_seconds * fps))
        leaves = np.flatnonzero(speed[end : waits + 1] > still)
        if at_rest and len(leaves):
            end += int(leaves[0])
        start = max(start, events[-1].end if events else 0)
        if end > start:
            events.append(
                Part(arm=arm.name, action=action, start=start, end=end, tool=arm.tool, confidence=(0.95, 0.8))
            )
    return events


def _moving(fast: np.ndarray, events: Sequence[Part], pause: int) -> np.ndarray:
    """bool [L]: motion outside gripper events, with the short pauses in it; rest at the ends is never filled."""
    busy = fast.copy()
    for event in events:
        busy[event.start : event.end] = True
    rests = np.flatnonzero(np.diff((~busy).astype(int), prepend=0, append=0)).reshape(-1, 2)
    for start, end in rests:
        if start > 0 and end < len(busy) and end - start <= pause:
            busy[start:end] = True
    for event in events:
        busy[event.start : event.end] = False
    return busy


def _moves(arm: str, speed: np.ndarray, moving: np.ndarray, gap: int, dip: float) -> list[Part]:
    """Stretches of motion, cut at the dips of the speed."""
    edges = np.flatnonzero(np.diff(moving.astype(int), prepend=0, append=0)).reshape(-1, 2)
    moves: list[Part] = []
    for start, end in edges.tolist():
        if end - start < gap:
            continue
        dips = _dips(speed, start, end, gap, dip)
        bounds = [(start, 0.8), *dips, (end, 0.8)]
        for (first, before), (last, after) in zip(bounds, bounds[1:], strict=False):
            moves.append(Part(arm=arm, action="move", start=first, end=last, confidence=(before, after)))
    return moves


def _dips(speed: np.ndarray, start: int, end: int, gap: int, dip: float) -> list[tuple[int, float]]:
    """Frames in (start, end) at which the speed dips, deepest first then each side, with a confidence; in order."""
    candidates = np.arange(start + gap, end - gap + 1)
    if not len(candidates):
        return []
    rising = np.maximum.accumulate(speed[start:end])[candidates - start - 1]
    falling = np.maximum.accumulate(speed[start:end][::-1])[::-1][np.minimum(candidates - start, end - start - 1)]
    depth = speed[candidates] / np.minimum(rising, falling)
    best = int(np.argmin(depth))
    if depth[best] >= dip:
        return []
    cut = int(candidates[best])
    confidence = 0.5 + 0.4 * (1 - float(depth[best]) / dip)
    return [*_dips(speed, start, cut, gap, dip), (cut, confidence), *_dips(speed, cut, end, gap, dip)]


def _name_moves(
    arm: Arm, moves: Sequence[Part], events: Sequence[Part], turns: Sequence[Turn], eef_pose: np.ndarray | None
) -> list[Part]:
    """Moves named by the gripper's story: what it holds, and what it does next."""
    named = []
    for number, move in enumerate(moves):
        before = [action for frame, action in turns if frame < move.start]
        later = [event for event in events if event.start >= move.start]
        action = "move"
        if before and before[-1] == CLOSE:
            action = _held_move(arm, move, eef_pose)
        elif later and later[0].action == CLOSE:
            following = moves[number + 1].start if number + 1 < len(moves) else later[0].start
            action = "reach" if following >= later[0].start else "approach"
        elif before:
            action = "retract"
        named.append(replace(move, action=action))
    return named


def _held_move(arm: Arm, move: Part, eef_pose: np.ndarray | None) -> str:
    if eef_pose is None or arm.name not in POSITION_OF_SIDE:
        return "carry"
    positions = eef_pose[:, arm.position]
    way = positions[min(move.end, len(positions) - 1)] - positions[move.start]
    if abs(way[2]) < max(VERTICAL_METRES, VERTICAL_SHARE * float(np.linalg.norm(way))):
        return "carry"
    return "lift" if way[2] > 0 else "lower"


def _together(parts: Sequence[Part]) -> list[Part]:
    """The parts, gripper events of several arms that begin together as one: it lasts until the last has settled."""
    joined = []
    for part in parts:
        twins = [
            other
            for other in parts
            if other.action == part.action
            and "gripper" in part.action
            and min(part.end, other.end) - max(part.start, other.start) > 0
            and 2 * abs(part.start - other.start) <= min(part.end - part.start, other.end - other.start)
        ]
        start = min((twin.start for twin in twins), default=part.start)
        end = max((twin.end for twin in twins), default=part.end)
        joined.append(replace(part, start=start, end=end))
    return joined


def _cuts(parts: Sequence[Part], gap: int) -> list[tuple[int, float]]:
    """Frames at which any arm's part starts or ends, the clearest kept where two are closer than `gap`; in order."""
    clearest: dict[int, float] = {}
    for part in parts:
        for frame, confidence in zip((part.start, part.end), part.confidence, strict=True):
            clearest[frame] = max(confidence, clearest.get(frame, 0.0))
    kept: list[tuple[int, float]] = []
    for frame, confidence in sorted(clearest.items(), key=lambda cut: (-cut[1], cut[0])):
        if all(abs(frame - other) >= gap for other, _ in kept):
            kept.append((frame, confidence))
    return sorted(kept)


def _acting(parts: Sequence[Part], start: int, end: int, speeds: dict[str, np.ndarray]) -> tuple[Part, ...]:
    """The parts that fill at least half of [start, end), one an arm: gripper events first, then by the way moved."""
    acting: dict[str, Part] = {}
    for part in parts:
        shared = min(part.end, end) - max(part.start, start)
        if 2 * shared >= end - start:
            acting[part.arm] = part
    return tuple(
        sorted(
            acting.values(),
            key=lambda part: ("gripper" not in part.action, -float(speeds[part.arm][start:end].sum()), part.arm),
        )
    )


def _holds(turns: Sequence[Turn], frame: int) -> bool:
    """Whether the last turn before `frame` closed the gripper."""
    before = [action for at, action in turns if at < frame]
    return bool(before) and before[-1] == CLOSE
