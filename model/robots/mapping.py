"""A dataset's dimensions and cameras mapped to a robot's: a proposal for a person to check, and the YAML that it makes.

A dimension is placed by its name; else by what its name says (left or right; arm, gripper, hand, head, waist, base,
leg) and its rank among those; else, in a dataset without names and with the robot's width, by its position. What is
left on either side is listed, never guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.errors import UserError
from model.robots.catalogue import IMAGE_PREFIX, DescribedDataset, guess_roles
from model.robots.robot import Group, Joint, Robot

SAME_NAME, LIKE_NAME, POSITION = "name", "side, kind and rank", "position"
SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
# the first kind that has a word of the name; a name with none is of an arm
WORDS = {
    "gripper": ("gripper", "claw", "effector"),
    "head": ("head", "neck"),
    "waist": ("waist", "torso", "lift", "column", "spine"),
    "base": ("base", "chassis", "wheel"),
    "leg": ("leg", "hip", "knee", "ankle"),
    "hand": ("hand", "finger", "thumb", "index", "middle", "ring", "pinky", "little"),
    "end_effector": ("eef", "ee", "pose"),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Dimension `dim` of the dataset, called `name` there, is the robot's `joint`; `how` says why."""

    dim: int
    name: str
    joint: str
    how: str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """How a dataset fits a robot.

    Attributes:
        places: of the action's dimensions, in the dataset's order.
        unplaced: (dimension, name) of the action that the robot has no joint for.
        missing: the robot's joints that the dataset lacks.
        state_differs: the state's names are not the action's.
        cameras: role -> the dataset's camera.
        unused_cameras: the dataset's cameras without a role.
    """

    robot: Robot
    places: tuple[Place, ...]
    unplaced: tuple[tuple[int, str], ...]
    missing: tuple[str, ...]
    state_differs: bool
    cameras: dict[str, str]
    unused_cameras: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every dimension of the dataset has its place and a camera its role."""
        return not self.unplaced and not self.state_differs and bool(self.cameras)


def propose(info: DescribedDataset, robot: Robot) -> Proposal:
    """Map the dataset's action and cameras to `robot`.

    Raises:
        UserError: the dataset declares no one-dimensional action.
    """
    feature = info.features.get("action")
    if feature is None or len(feature.shape) != 1:
        raise UserError("meta/info.json declares no one-dimensional 'action': there is nothing to map.")
    width = feature.shape[0]
    names = info.action_names or tuple(f"action_{dim}" for dim in range(width))
    places = _by_name(names, robot)
    if info.action_names:
        places |= _by_rank(names, robot, places)
    elif width == len(robot.action_names):
        places |= {dim: (joint, POSITION) for dim, joint in enumerate(robot.action_names)}
    found = {joint for joint, _ in places.values()}
    short = [key.removeprefix(IMAGE_PREFIX) for key in info.cameras]
    cameras = {role: key for role, key in robot.cameras.items() if key in short}
    for role, key in guess_roles(tuple(info.cameras)).items():
        if role not in cameras and key not in cameras.values():
            cameras[role] = key
    return Proposal(
        robot=robot,
        places=tuple(
            Place(dim=dim, name=names[dim], joint=joint, how=how) for dim, (joint, how) in sorted(places.items())
        ),
        unplaced=tuple((dim, name) for dim, name in enumerate(names) if dim not in places),
        missing=tuple(joint for joint in robot.action_names if joint not in found),
        state_differs=info.state_names != info.action_names,
        cameras=cameras,
        unused_cameras=tuple(key for key in short if key not in cameras.values()),
    )


def mapped_robot(proposal: Proposal, robot_id: str, robot_type: str, fps: float) -> Robot:
    """The robot in the dataset's own order, names and cameras, with the limits and slots of the proposal's.

    Raises:
        UserError: something has no place; names it.
    """
    if not proposal.complete:
        names = ", ".join(name for _, name in proposal.unplaced) or "the state, which is not in the action's order"
        raise UserError(
            f"{names}: no place in robot '{proposal.robot.id}'. Choose another --robot, or write the YAML by hand."
        )
    robot = proposal.robot
    groups: list[Group] = []
    for place in proposal.places:
        dim = robot.action_names.index(place.joint)
        group = robot.group_of(dim)
        joint = next(joint for joint in group.joints if joint.name == place.joint)
        renamed = Joint(name=place.name, limits=joint.limits, velocity_limit=joint.velocity_limit)
        slot, before = robot.action_slots[dim], groups[-1] if groups else None
        if before and _stem(before.name) == group.name and before.slot + len(before.joints) == slot:
            groups[-1] = replace(before, joints=(*before.joints, renamed))
        else:
            used = sum(_stem(known.name) == group.name for known in groups)
            name = f"{group.name}.{used + 1}" if used else group.name
            unified = None if group.unified_slot is None else group.unified_slot + slot - group.slot
            groups.append(replace(group, name=name, slot=slot, unified_slot=unified, joints=(renamed,)))
    ordered = tuple(place.name for place in proposal.places)
    slots = tuple(robot.action_slots[robot.action_names.index(place.joint)] for place in proposal.places)
    if robot.layout == "raw":
        slots = tuple(range(len(ordered)))
    known = {robot.id, *robot.aliases}
    return replace(
        robot,
        id=robot_id,
        aliases=() if robot_type in known else (robot_type,),
        cameras=proposal.cameras,
        groups=tuple(groups),
        state_names=ordered,
        action_names=ordered,
        state_slots=slots,
        action_slots=slots,
        control_hz=fps,
        simulator=None,
        description=f"{robot.id} in the order of its dataset, proposed by `lingbot data map`.",
        unverified=(),
    )


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _by_name(names: Sequence[str], robot: Robot) -> dict[int, tuple[str, str]]:
    plain = {_plain(joint): joint for joint in robot.action_names}
    return {dim: (plain[_plain(name)], SAME_NAME) for dim, name in enumerate(names) if _plain(name) in plain}


def _by_rank(names: Sequence[str], robot: Robot, placed: dict[int, tuple[str, str]]) -> dict[int, tuple[str, str]]:
    """The k-th unplaced left arm joint of the dataset is the robot's k-th free one; so for each side and kind."""
    taken = {joint for joint, _ in placed.values()}
    free: dict[tuple[str, str], list[str]] = {}
    for group in robot.groups:
        key = (next((side for side in ("left", "right") if group.name.startswith(side)), ""), group.kind)
        free.setdefault(key, []).extend(joint.name for joint in group.joints if joint.name not in taken)
    found = {}
    for dim, name in enumerate(names):
        joints = free.get(_meaning(name), [])
        if dim not in placed and joints:
            found[dim] = (joints.pop(0), LIKE_NAME)
    return found


def _meaning(name: str) -> tuple[str, str]:
    """(side, kind) that a name tells: ("left", "arm") of `l_arm_pitch`, `kLeftElbow` or `left_joint_3`."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    side = next((SIDES[word] for word in words if word in SIDES), "")
    kind = next((kind for kind, known in WORDS.items() if any(word in known for word in words)), "arm")
    # an arm has a waist or a base of its own: ALOHA's `left_waist` turns the left arm
    return (side, "arm") if side and kind in ("head", "waist", "base") else (side, kind)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
