"""The robots that are described here, found by id, alias or what a dataset calls them."""

import re
from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Protocol

from model.errors import UserError, unknown_name
from model.robots.layouts import CANONICAL_DIM
from model.robots.parse import UNVERIFIED, parse_robot
from model.robots.robot import ROLES, Group, Joint, Robot

FOLDER = Path(__file__).parent
IMAGE_PREFIX = "observation.images."


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


class DescribedDataset(Protocol):
    """What `find_robot` needs of a dataset: `model.data.lerobot_layout.DatasetInfo` has it."""

    @property
    def robot_type(self) -> str: ...
    @property
    def fps(self) -> float: ...
    @property
    def cameras(self) -> tuple[str, ...]: ...
    @property
    def state_names(self) -> tuple[str, ...]: ...
    @property
    def action_names(self) -> tuple[str, ...]: ...
    @property
    def features(self) -> Mapping[str, _Shaped]: ...


def robot_ids() -> tuple[str, ...]:
    """Ids of the robots that have a YAML here."""
    return tuple(sorted({robot.id for robot in _catalogue().values()}))


def load_robot(name: str) -> Robot:
    """The robot with this id or alias, whatever its case and separators.

    Raises:
        UserError: no such robot; names the nearest.
    """
    robot = _catalogue().get(_plain(name))
    if robot is None:
        raise unknown_name("robot", name, robot_ids())
    return robot


def find_robot(info: DescribedDataset) -> Robot:
    """The robot that made a dataset, by its robot type; an unknown one is described by the dataset itself, raw layout.

    Raises:
        UserError: the robot is unknown and its dataset declares no state, action or camera, or more dimensions than
            the policy's vector has; or it is known and the dataset declares its joints in another order.
    """
    known = _catalogue().get(_plain(info.robot_type))
    if known is not None:
        _check_order(info, known)
        return known
    state_names = _names(info, "observation.state", info.state_names)
    action_names = _names(info, "action", info.action_names)
    if not info.cameras:
        raise UserError(f"robot type '{info.robot_type}': meta/info.json declares no camera. A policy needs a view.")
    plain = _plain(info.robot_type)
    return Robot(
        id=plain if plain[:1].isalpha() else f"robot_{plain}".rstrip("_"),
        aliases=(info.robot_type,),
        cameras=guess_roles(info.cameras),
        layout="raw",
        groups=_guess_groups(action_names),
        state_names=state_names,
        action_names=action_names,
        state_slots=tuple(range(len(state_names))),
        action_slots=tuple(range(len(action_names))),
        control_hz=info.fps,
        description="Described by its dataset alone: no YAML in model/robots has this robot type.",
    )


def _check_order(info: DescribedDataset, robot: Robot) -> None:
    """The same names in another order would train every joint as another one, and nothing else would notice."""
    for key, declared, names in (
        ("action", info.action_names, robot.action_names),
        ("observation.state", info.state_names, robot.state_names),
    ):
        if declared != names and sorted(declared) == sorted(names):
            dim = next(dim for dim, (ours, theirs) in enumerate(zip(names, declared, strict=True)) if ours != theirs)
            raise UserError(
                f"robot '{robot.id}': dimension {dim} of '{key}' is '{declared[dim]}' in the dataset, but "
                f"'{names[dim]}' in model/robots/{robot.id}.yaml. Write a YAML in the dataset's order: "
                f"`lingbot data map DATASET --robot {robot.id} --output FILE`."
            )


@cache
def _catalogue() -> dict[str, Robot]:
    """Plain name -> robot, for each id and alias."""
    robots: dict[str, Robot] = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        where = f"model/robots/{file.name}"
        robot = parse_robot(file.read_text(encoding="utf-8"), where)
        if robot.id != file.stem:
            raise UserError(f"{where}: id '{robot.id}' must be the file's name.")
        for name in {_plain(known) for known in (robot.id, *robot.aliases)}:
            if name in robots:
                raise UserError(f"{where}: '{name}' also names {robots[name].id}. Remove one.")
            robots[name] = robot
    return robots


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _names(info: DescribedDataset, key: str, declared: tuple[str, ...]) -> tuple[str, ...]:
    feature = info.features.get(key)
    if feature is None or len(feature.shape) != 1:
        raise UserError(
            f"robot type '{info.robot_type}': meta/info.json declares no one-dimensional '{key}'. A policy needs it."
        )
    width = feature.shape[0]
    if width > CANONICAL_DIM:
        raise UserError(
            f"robot type '{info.robot_type}': '{key}' has {width} dimensions, the policy's vector has {CANONICAL_DIM}. "
            "Choose dimensions and write the dataset with those alone."
        )
    stem = key.rpartition(".")[2]
    unique = len(set(declared)) == len(declared) == width
    return declared if unique else tuple(f"{stem}_{dim}" for dim in range(width))


def guess_roles(cameras: tuple[str, ...]) -> dict[str, str]:
    """Wrist views by their names; the first other camera takes the role `high`."""
    short = [key.removeprefix(IMAGE_PREFIX) for key in cameras]
    roles: dict[str, str] = {}
    for role, side in (("left_wrist", "left"), ("right_wrist", "right")):
        match = next((name for name in short if side in name and ("wrist" in name or "hand" in name)), None)
        if match is not None:
            roles[role] = match
    high = next((name for name in short if name not in roles.values()), None)
    if high is not None:
        roles["high"] = high
    return {role: roles[role] for role in ROLES if role in roles}


def _guess_groups(names: tuple[str, ...]) -> tuple[Group, ...]:
    """Consecutive dimensions as raw groups. Grippers by name, in LeRobot's convention: 0 closed to 1 open."""
    groups = []
    for gripper, run in groupby(enumerate(names), key=lambda item: "gripper" in item[1].lower()):
        dims = list(run)
        first = dims[0][0]
        groups.append(
            Group(
                name=f"gripper_{first}" if gripper else f"dims_{first}_{dims[-1][0]}",
                kind="gripper" if gripper else "raw",
                unit=UNVERIFIED,
                slot=first,
                joints=tuple(Joint(name=name) for _, name in dims),
                closed=0.0 if gripper else None,
                open=1.0 if gripper else None,
            )
        )
    return tuple(groups)
