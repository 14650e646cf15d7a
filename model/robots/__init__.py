"""Robots: one validated YAML an embodiment, and the slots it takes in the canonical 75-dim vector."""

from model.robots.catalogue import find_robot, load_robot, robot_ids
from model.robots.parse import dump_robot, parse_robot
from model.robots.robot import CANONICAL_DIM, ROLES, Group, Joint, Robot

__all__ = [
    "CANONICAL_DIM",
    "ROLES",
    "Group",
    "Joint",
    "Robot",
    "dump_robot",
    "find_robot",
    "load_robot",
    "parse_robot",
    "robot_ids",
]
