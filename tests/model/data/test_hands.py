"""Hands as grippers: openings, and the episodes that are cut and named by them."""

from pathlib import Path

import numpy as np
import pytest

from model.data.gripper_turns import CLOSE, OPEN, turns_of
from model.data.hands import hand_dims, hand_opening
from model.data.lerobot import LeRobotDataset
from model.data.segmentation import SegmentationSettings, segment_episode
from model.robots import find_robot, load_robot

G1, GR1, ALOHA = (load_robot(name) for name in ("unitree_g1_inspire", "gr1", "aloha_sim"))
LENGTH, FPS = 120, 30


def ramp(*knots: tuple[int, float]) -> np.ndarray:
    return np.interp(np.arange(LENGTH), [frame for frame, _ in knots], [value for _, value in knots])


def moved(start: int, end: int, length: int = LENGTH) -> np.ndarray:
    """0 to 1 between two frames, with rest at both ends."""
    s = np.clip((np.arange(length) - start) / (end - start), 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def recording(hand: np.ndarray) -> np.ndarray:
    """The right arm of a G1 goes, waits for the hand, and goes on; its fingers follow `hand`."""
    action = np.full((LENGTH, len(G1.action_names)), 0.5)
    fingers = hand_dims(G1)["right"]
    action[:, list(fingers)] = hand[:, None] * np.linspace(0.8, 1.0, len(fingers))
    action[:, 7] = moved(0, 40) + moved(60, 100)
    return action


def test_the_hands_of_a_robot_are_where_its_canonical_slots_say() -> None:
    assert hand_dims(ALOHA) == {} and set(hand_dims(GR1)) == {"left", "right"}
    names = {side: {G1.action_names[dim] for dim in dims} for side, dims in hand_dims(G1).items()}
    assert all(len(found) == 6 for found in names.values())
    assert all(name.startswith("kLeftHand") for name in names["left"])
    assert all(name.startswith("kRightHand") for name in names["right"])


def test_a_normalized_hand_is_open_at_one_whatever_it_begins_with() -> None:
    grip = ramp((0, 0.6), (30, 0.9), (45, 0.3), (80, 0.3), (95, 0.8))
    opening = hand_opening(G1, hand_dims(G1)["right"], recording(grip))
    assert opening is not None and opening[30] == 1 and opening[45:80].max() < 1e-9 and 0.4 < opening[0] < 0.6


def test_a_hand_in_radians_is_open_as_it_begins() -> None:
    action = np.zeros((LENGTH, len(GR1.action_names)))
    fingers = list(hand_dims(GR1)["right"])
    action[:, fingers] = ramp((0, 0.0), (40, 0.0), (45, 1.0))[:, None] * [1.5, 1.5, -3.0, 1.0, 0.0, 0.0]
    opening = hand_opening(GR1, fingers, action)
    assert opening is not None and opening[:40].min() == 1 and opening[45:].max() == 0
    assert hand_opening(GR1, hand_dims(GR1)["left"], action) is None, "the other hand rests"


def test_a_hand_that_trembles_does_nothing() -> None:
    tremor = 0.5 + 0.05 * np.sin(np.arange(LENGTH))
    assert hand_opening(G1, hand_dims(G1)["right"], recording(tremor)) is None


def test_an_episode_is_cut_and_named_by_a_hand() -> None:
    action = recording(ramp((0, 0.9), (42, 0.9), (50, 0.2), (119, 0.2)))
    segments = segment_episode(action, action, FPS, G1)
    assert [segment.action for segment in segments] == ["reach", "close gripper", "carry"]
    assert {part.tool for segment in segments for part in segment.parts if part.action == "close gripper"} == {"hand"}
    assert abs(segments[1].start - 42) <= 2


def test_what_is_let_go_on_the_way_is_not_carried_any_more() -> None:
    held = np.zeros((200, 14))
    held[:, [6, 13]] = 1.0
    held[30:120, 13] = 0.0
    held[:, 7] = moved(0, 28, 200) + moved(50, 110, 200)
    held[:, 8] = moved(108, 140, 200) + moved(145, 190, 200)
    names = [segment.action for segment in segment_episode(held, held, FPS, ALOHA)]
    assert names[:3] == ["reach", "close gripper", "carry"] and names[-1] == "retract", names


def test_a_gripper_that_opens_again_at_once_has_held_nothing() -> None:
    opening = ramp((0, 1.0), (20, 1.0), (21, 0.0), (24, 0.0), (25, 1.0), (60, 1.0), (61, 0.0), (90, 0.0), (91, 1.0))
    assert turns_of(opening, 10) == [(61, CLOSE), (91, OPEN)]
    assert turns_of(opening, 5) == turns_of(opening, 10) and turns_of(opening, 4) == turns_of(opening, 2)
    assert turns_of(opening, 2) == [(21, CLOSE), (25, OPEN), (61, CLOSE), (91, OPEN)]
    assert turns_of(None, 10) == []


@pytest.mark.parametrize("episode", [1, 2, 4, 5])
def test_a_real_hand_reaches_closes_once_around_the_bottle_and_carries_it(shared: Path, episode: int) -> None:
    dataset = LeRobotDataset.open(shared / "datasets/g1_inspire_bottle")
    arrays = dataset.arrays(episode)
    settings = SegmentationSettings(smooth_seconds=0.2)  # a person's arms, through which the robot is led, tremble
    robot = find_robot(dataset.info)
    segments = segment_episode(arrays.state, arrays.action, dataset.info.fps, robot, settings=settings)
    names = [segment.action for segment in segments]
    assert names.count("close gripper") == 1 and len(names) <= 8
    closing = names.index("close gripper")
    assert names[closing - 1] == "reach" and names[closing + 1] == "carry"
