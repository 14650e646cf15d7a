"""A robot's YAML: read with every fault named by file and key, and written back for a bundle."""

import math
import re
from typing import Any

from model.errors import UserError, unknown_name
from model.robots.layouts import CANONICAL_DIM, SLOTS, UNIFIED_DIM, UNPLACED
from model.robots.robot import ROLES, Group, Joint, Robot
from model.yaml_files import parse_yaml

UNVERIFIED = "unverified"
LAYOUTS = ("canonical", "raw")
ACTION_MODES = ("absolute", "relative")
SIMULATORS = ("aloha_mujoco",)
UNITS = (
    "radian", "metre", "normalized", "percent", "quaternion", "metre per second", "radian per second", UNVERIFIED,
)  # fmt: skip
KEYS = (
    "id", "aliases", "description", "source", "control_hz", "action_mode", "layout", "simulator", "cameras", "groups",
    "state_names", "unverified",
)  # fmt: skip
GROUP_KEYS = ("name", "kind", "unit", "slot", "closed", "open", "subtract_state", "unified_slot", "joints")
QUESTIONABLE = ("joints", "unit", "limits", "velocity", "closed", "open", "unified_slot")  # of a group, in `unverified`


def parse_robot(text: str, where: str) -> Robot:
    """A robot from YAML text; `where` names the file in errors.

    Raises:
        UserError: a key is unknown, missing or impossible; names the file, the key and what is allowed.
    """
    return _Parser(where).robot(parse_yaml(text, where))


def dump_robot(robot: Robot) -> str:
    """The YAML that `parse_robot` reads back as an equal robot. Equal robots give equal text."""
    import yaml

    raw: dict[str, Any] = {
        "id": robot.id,
        "aliases": list(robot.aliases),
        "description": robot.description,
        "source": robot.source,
        "control_hz": _known(robot.control_hz),
        "action_mode": robot.action_mode,
        "layout": robot.layout,
        "simulator": robot.simulator,
        "cameras": dict(robot.cameras),
        "groups": [_dump_group(group) for group in robot.groups],
    }
    if robot.state_names != robot.action_names:
        raw["state_names"] = list(robot.state_names)
    if robot.unverified:
        raw["unverified"] = list(robot.unverified)
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=120)


def _dump_group(group: Group) -> dict[str, Any]:
    raw: dict[str, Any] = {"name": group.name, "kind": group.kind, "unit": group.unit, "slot": group.slot}
    if group.kind == "gripper":
        raw |= {"closed": _known(group.closed), "open": _known(group.open)}
    if group.subtract_state:
        raw["subtract_state"] = True
    if group.unified_slot is not None:
        raw["unified_slot"] = group.unified_slot
    raw["joints"] = [
        {
            "name": joint.name,
            "limits": UNVERIFIED if joint.limits is None else list(joint.limits),
            "velocity": _known(joint.velocity_limit),
        }
        for joint in group.joints
    ]
    return raw


def _known(value: float | None) -> float | str:
    return UNVERIFIED if value is None else value


class _Parser:
    def __init__(self, where: str) -> None:
        self._where = where

    def robot(self, raw: Any) -> Robot:
        self._keys(raw, "the robot", KEYS, required=("id", "control_hz", "layout", "cameras", "groups"))
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(raw["id"])):
            raise self._error(f"id '{raw['id']}' must be snake case (a-z, 0-9, _)")
        self._one_of("layout", raw["layout"], LAYOUTS)
        self._one_of("action_mode", raw.get("action_mode", "absolute"), ACTION_MODES)
        if raw.get("simulator") is not None:
            self._one_of("simulator", raw["simulator"], SIMULATORS)
        canonical = raw["layout"] == "canonical"
        groups = tuple(
            self._group(group, f"groups[{number}]", canonical)
            for number, group in enumerate(self._list("groups", raw["groups"]))
        )
        names = tuple(joint.name for group in groups for joint in group.joints)
        if not names or len(set(names)) != len(names):
            twice = next((name for name in names if names.count(name) > 1), "none")
            raise self._error(f"every joint needs a name of its own; at fault: '{twice}'")
        if canonical:
            slots = tuple(group.slot + offset for group in groups for offset in range(len(group.joints)))
        else:
            slots = tuple(range(len(names)))
        if taken := {slot for slot in slots if slots.count(slot) > 1}:
            raise self._error(f"canonical slot {min(taken)} is taken by two joints")
        state_names = self._state_names(raw.get("state_names"), names, canonical)
        if max(len(names), len(state_names)) > CANONICAL_DIM:
            raise self._error(
                f"it has {max(len(names), len(state_names))} dimensions, the policy's vector has {CANONICAL_DIM}"
            )
        robot = Robot(
            id=raw["id"],
            aliases=tuple(map(str, self._list("aliases", raw.get("aliases", [])))),
            cameras=self._cameras(raw["cameras"]),
            layout=raw["layout"],
            groups=groups,
            state_names=state_names,
            action_names=names,
            state_slots=slots if canonical else tuple(range(len(state_names))),
            action_slots=slots,
            control_hz=self._rate(raw["control_hz"]),
            action_mode=raw.get("action_mode", "absolute"),
            simulator=raw.get("simulator"),
            description=str(raw.get("description", "")),
            source=str(raw.get("source", "")),
            unverified=self._unverified(raw.get("unverified", []), groups),
        )
        self._check_unified(robot)
        return robot

    def _group(self, raw: Any, place: str, canonical: bool) -> Group:
        self._keys(raw, place, GROUP_KEYS, required=("name", "kind", "unit", "slot", "joints"))
        self._one_of(f"{place}.kind", raw["kind"], tuple(SLOTS))
        self._one_of(f"{place}.unit", raw["unit"], UNITS)
        joints = tuple(
            self._joint(joint, f"{place}.joints[{position}]")
            for position, joint in enumerate(self._list(f"{place}.joints", raw["joints"]))
        )
        slot = raw["slot"]
        if not isinstance(slot, int) or not joints:
            raise self._error(f"{place} needs a whole number as 'slot' and at least one joint")
        last = slot + len(joints) - 1
        if canonical and not any(slot in allowed and last in allowed for allowed in SLOTS[raw["kind"]]):
            spans = " or ".join(f"{allowed.start}-{allowed.stop - 1}" for allowed in SLOTS[raw["kind"]]) or "none"
            raise self._error(
                f"{place} ('{raw['name']}') takes slots {slot}-{last}; a group '{raw['kind']}' may {spans}"
            )
        gripper = raw["kind"] == "gripper"
        if gripper and ("closed" not in raw or "open" not in raw or raw["closed"] == raw["open"] != UNVERIFIED):
            raise self._error(f"{place} ('{raw['name']}') is a gripper: give the values 'closed' and 'open', not equal")
        if (raw.get("closed") == UNVERIFIED) != (raw.get("open") == UNVERIFIED):
            raise self._error(f"{place} ('{raw['name']}') needs both 'closed' and 'open', or '{UNVERIFIED}' for both")
        subtract = raw.get("subtract_state", False)
        if not isinstance(subtract, bool):
            raise self._error(f"{place}.subtract_state is {subtract!r}; it must be true or false")
        if subtract and gripper:
            raise self._error(f"{place} ('{raw['name']}') is a gripper: its actions stay absolute, drop subtract_state")
        return Group(
            name=str(raw["name"]),
            kind=raw["kind"],
            unit=raw["unit"],
            slot=slot,
            joints=joints,
            closed=self._optional(f"{place}.closed", raw["closed"]) if gripper else None,
            open=self._optional(f"{place}.open", raw["open"]) if gripper else None,
            subtract_state=subtract,
            unified_slot=self._unified_slot(place, raw),
        )

    def _unified_slot(self, place: str, raw: dict[str, Any]) -> int | None:
        slot = raw.get("unified_slot")
        if slot is None:
            return None
        if not isinstance(slot, int) or not 0 <= slot <= UNIFIED_DIM - len(raw["joints"]):
            raise self._error(
                f"{place}.unified_slot is {slot!r}; its {len(raw['joints'])} joints must fit 0 to {UNIFIED_DIM - 1}"
            )
        return slot

    def _check_unified(self, robot: Robot) -> None:
        placed = [slot for slot in robot.unified_action_slots if slot != UNPLACED]
        if twice := {slot for slot in placed if placed.count(slot) > 1}:
            raise self._error(f"slot {min(twice)} of the {UNIFIED_DIM}-dim vector is taken by two joints")
        if robot.subtracted_dims and robot.action_mode != "absolute":
            raise self._error("subtract_state needs action_mode 'absolute': relative actions are differences already")
        missing = [
            joint.name
            for group in robot.groups
            if group.subtract_state
            for joint in group.joints
            if joint.name not in robot.state_names
        ]
        if missing:
            raise self._error(f"subtract_state needs '{missing[0]}' in state_names")

    def _unverified(self, raw: Any, groups: tuple[Group, ...]) -> tuple[str, ...]:
        allowed = (*KEYS, *(f"{group.name}.{key}" for group in groups for key in QUESTIONABLE))
        for key in self._list("unverified", raw):
            self._one_of("unverified", key, allowed)
        return tuple(raw)

    def _joint(self, raw: Any, place: str) -> Joint:
        self._keys(raw, place, ("name", "limits", "velocity"), required=("name", "limits", "velocity"))
        limits = None
        if raw["limits"] != UNVERIFIED:
            values = self._list(f"{place}.limits", raw["limits"])
            if len(values) != 2:
                raise self._error(f"{place}.limits must be [lowest, highest] or '{UNVERIFIED}'")
            limits = (self._number(f"{place}.limits", values[0]), self._number(f"{place}.limits", values[1]))
            if limits[0] >= limits[1]:
                raise self._error(f"{place}.limits are {limits[0]} to {limits[1]}; the first must be the lower")
        return Joint(
            name=str(raw["name"]),
            limits=limits,
            velocity_limit=self._optional(f"{place}.velocity", raw["velocity"]),
        )

    def _cameras(self, raw: Any) -> dict[str, str]:
        self._keys(raw, "cameras", ROLES, required=())
        if not raw:
            raise self._error("cameras names no view; a policy needs at least one")
        return {role: str(raw[role]) for role in ROLES if role in raw}

    def _state_names(self, raw: Any, action_names: tuple[str, ...], canonical: bool) -> tuple[str, ...]:
        if raw is None:
            return action_names
        if canonical:
            raise self._error("state_names may differ from the joints in a raw layout only")
        return tuple(map(str, self._list("state_names", raw)))

    def _keys(self, raw: Any, place: str, allowed: tuple[str, ...], required: tuple[str, ...]) -> None:
        if not isinstance(raw, dict):
            raise self._error(f"{place} must map keys to values")
        for key in raw:
            if key not in allowed:
                raise UserError(f"{self._where}: {unknown_name(f'key of {place}', str(key), allowed)}")
        for key in required:
            if key not in raw:
                raise self._error(f"{place} lacks '{key}'")

    def _list(self, place: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self._error(f"{place} is {value!r}; it must be a list")
        return value

    def _one_of(self, key: str, value: Any, allowed: tuple[str, ...]) -> None:
        if value not in allowed:
            raise UserError(f"{self._where}: {unknown_name(key, str(value), allowed)}")

    def _rate(self, value: Any) -> float | None:
        if value == UNVERIFIED:
            return None
        if value is None or self._number("control_hz", value) <= 0:
            raise self._error(f"control_hz is {value!r}; it must be above 0, or '{UNVERIFIED}'")
        return float(value)

    def _optional(self, key: str, value: Any) -> float | None:
        return None if value == UNVERIFIED else self._number(key, value)

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._error(f"{key} is {value!r}; it must be a number")
        return float(value)

    def _error(self, sentence: str) -> UserError:
        return UserError(f"{self._where}: {sentence}.")
