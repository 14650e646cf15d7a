"""Robots: one validated YAML an embodiment, and the slots it takes in the canonical 75-dim and 55-dim vectors."""

from model.robots.catalogue import find_robot, load_robot, robot_ids
from model.robots.layouts import CANONICAL_DIM, UNIFIED_DIM, UNPLACED
from model.robots.parse import dump_robot, parse_robot
from model.robots.robot import ROLES, Group, Joint, Robot

__all__ = [
    "CANONICAL_DIM",
    "ROLES",
    "UNIFIED_DIM",
    "UNPLACED",
    "Group",
    "Joint",
    "Robot",
    "dump_robot",
    "find_robot",
    "load_robot",
    "parse_robot",
    "robot_ids",
]
