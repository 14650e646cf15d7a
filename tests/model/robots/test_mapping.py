"""Mapping a dataset to a robot: by name, by what a name says, by position; and the YAML that comes of it."""

from pathlib import Path

import numpy as np
import pytest

from model.data.lerobot import LeRobotDataset
from model.data.lerobot_layout import DatasetInfo, Feature
from model.errors import UserError
from model.robots import dump_robot, load_robot, parse_robot
from model.robots.mapping import LIKE_NAME, POSITION, SAME_NAME, mapped_robot, propose


def dataset(names: tuple[str, ...] = (), width: int = 0, cameras: tuple[str, ...] = ("cam_high",)) -> DatasetInfo:
    width = width or len(names)
    features = {
        key: Feature(key=key, dtype="float32", shape=(width,), names=names) for key in ("observation.state", "action")
    }
    for camera in cameras:
        key = f"observation.images.{camera}"
        features[key] = Feature(key=key, dtype="video", shape=(48, 48, 3))
    return DatasetInfo(
        version="v3.0", robot_type="mine", fps=15.0, features=features, total_episodes=1, total_frames=1,
        total_tasks=1, chunks_size=1000, data_path="", video_path="",
    )  # fmt: skip


def test_equal_names_in_another_order_are_placed_by_name() -> None:
    robot = load_robot("aloha_sim")
    names = (*robot.action_names[7:], *robot.action_names[:7])
    proposal = propose(dataset(names), robot)
    assert proposal.complete and {place.how for place in proposal.places} == {SAME_NAME}
    mapped = mapped_robot(proposal, "aloha_swapped", "mine", 15.0)
    assert mapped.action_names == names
    assert mapped.action_slots == (7, 8, 9, 10, 11, 12, 15, 0, 1, 2, 3, 4, 5, 14)
    # each joint keeps its own limits in its new place
    np.testing.assert_array_equal(mapped.limits, robot.limits[[*range(7, 14), *range(7)]])
    assert mapped.gripper_dims == (6, 13) and mapped.control_hz == 15.0
    assert parse_robot(dump_robot(mapped), "copy") == mapped


def test_other_names_are_placed_by_side_kind_and_rank() -> None:
    left, right = (f"l_arm_j{i}" for i in range(1, 7)), (f"R-Arm.J{i}" for i in range(1, 7))
    names = ("head_yaw", *left, "l_claw", *right, "r_claw")
    proposal = propose(dataset(names), load_robot("agilex"))
    found = {place.name: place.joint for place in proposal.places}
    assert {place.how for place in proposal.places} == {LIKE_NAME}
    assert found["l_arm_j3"] == "left_joint_3" and found["R-Arm.J6"] == "right_joint_6"
    assert found["l_claw"] == "left_gripper" and found["r_claw"] == "right_gripper"
    assert proposal.unplaced == ((0, "head_yaw"),) and not proposal.complete
    with pytest.raises(UserError, match="head_yaw: no place in robot 'agilex'"):
        mapped_robot(proposal, "mine", "mine", 15.0)


def test_an_arms_own_waist_is_of_the_arm() -> None:
    """ALOHA's `left_waist` turns the left arm; it must not be lost to, or shift the joints against, the torso."""
    proposal = propose(dataset(load_robot("aloha_sim").action_names), load_robot("agilex"))
    assert [place.joint for place in proposal.places] == list(load_robot("agilex").action_names)


def test_interleaved_joints_give_groups_that_split() -> None:
    joints = (f"{side}_joint_{i}" for i in range(1, 7) for side in ("left", "right"))
    names = (*joints, "left_gripper", "right_gripper")
    robot = mapped_robot(propose(dataset(names), load_robot("agilex")), "interleaved", "mine", 15.0)
    assert robot.action_slots == (0, 7, 1, 8, 2, 9, 3, 10, 4, 11, 5, 12, 14, 15)
    again = parse_robot(dump_robot(robot), "copy")
    assert again == robot and len(again.subtracted_dims) == 12


def test_without_names_position_serves_only_for_the_robots_width() -> None:
    whole = propose(dataset(width=14), load_robot("agilex"))
    assert whole.complete and {place.how for place in whole.places} == {POSITION}
    other = propose(dataset(width=13), load_robot("agilex"))
    assert not other.places and len(other.unplaced) == 13 and len(other.missing) == 14


def test_cameras_take_roles_by_key_then_by_name() -> None:
    cameras = ("front", "wrist_left", "hand_right", "extra")
    proposal = propose(dataset(width=14, cameras=cameras), load_robot("agilex"))
    assert proposal.cameras == {"high": "front", "left_wrist": "wrist_left", "right_wrist": "hand_right"}
    assert proposal.unused_cameras == ("extra",)


@pytest.mark.parametrize(
    ("folder", "robot", "unused"),
    [
        ("gr1_sim_picknplace", "gr1", ("egoview",)),
        ("g1_inspire_bottle", "unitree_g1_inspire", ()),
        ("aloha_sim_insertion_3cam_224", "aloha_sim", ()),
    ],
)
def test_real_datasets_map_to_their_robots(shared: Path, folder: str, robot: str, unused: tuple[str, ...]) -> None:
    info = LeRobotDataset.open(shared / "datasets" / folder).info
    proposal = propose(info, load_robot(robot))
    assert proposal.complete and not proposal.missing and proposal.unused_cameras == unused
    assert [place.joint for place in proposal.places] == list(load_robot(robot).action_names)
