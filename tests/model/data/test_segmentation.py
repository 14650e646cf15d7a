"""Cutting episodes into atomic actions, on trajectories whose phases are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.segmentation import ACTIONS, Arm, SegmentationSettings, robot_arms, segment_episode
from model.errors import UserError
from model.robots import load_robot

ALOHA = load_robot("aloha_sim")
OFFSET = {"left": 0, "right": 7}
# seconds, what moves how far (rad), which gripper goes where
PICK = (
    (1.0, {"right": 1.0}, {}),
    (0.8, {"right": 0.5}, {}),
    (0.6, {}, {"right": 0.0}),
    (0.9, {"right": -0.6}, {}),
)


def play(phases, fps: float, rest: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Minimum-jerk phases as (state, action, times of the inner boundaries); `rest` seconds still at both ends."""
    phases = [(rest, {}, {}), *phases, (rest, {}, {})] if rest else list(phases)
    joints, opening = np.zeros(14), {"left": 1.0, "right": 1.0}
    actions, ends, time = [], [], 0.0
    for seconds, moves, grippers in phases:
        opening |= grippers
        count = round((time + seconds) * fps) - round(time * fps)
        start = joints.copy()
        for step in range(1, count + 1):
            s = step / count
            smooth = s**3 * (10 - 15 * s + 6 * s**2)
            for arm, way in moves.items():
                joints[OFFSET[arm] : OFFSET[arm] + 6] = start[OFFSET[arm] : OFFSET[arm] + 6] + way * smooth / 6**0.5
            command = joints.copy()
            command[[6, 13]] = opening["left"], opening["right"]
            actions.append(command)
        time += seconds
        ends.append(time)
    action = np.array(actions, np.float32)
    state = action.copy()
    for frame in range(1, len(state)):  # fingers take half a second to close
        for dim in (6, 13):
            way = action[frame - 1, dim] - state[frame - 1, dim]
            state[frame, dim] = state[frame - 1, dim] + np.clip(way, -2 / fps, 2 / fps)
    return state, action, ends[:-1]


@pytest.mark.parametrize("fps", [10, 20, 50])
def test_a_pick_is_cut_at_its_phases(fps: int) -> None:
    state, action, truth = play(PICK, fps)
    segments = segment_episode(state, action, fps, ALOHA)
    assert [segment.action for segment in segments] == ["approach", "reach", "close gripper", "carry"]
    assert {segment.arm for segment in segments} == {"right"}
    found = [segment.end / fps for segment in segments[:-1]]
    np.testing.assert_allclose(found, truth, atol=0.2)
    assert segments[-1].holding == ("right",) and segments[0].holding == ()


def test_static_head_and_tail_are_left_out() -> None:
    state, action, _ = play(PICK, 50, rest=1.0)
    segments = segment_episode(state, action, 50, ALOHA)
    assert segments[0].start / 50 == pytest.approx(1.0, abs=0.15)
    assert segments[-1].end / 50 == pytest.approx(4.3, abs=0.15)
    assert segment_episode(np.zeros((80, 14)), np.zeros((80, 14)), 50, ALOHA) == ()


def test_a_recorded_height_tells_lifting_and_lowering_from_carrying() -> None:
    phases = (*PICK, (0.9, {"right": 0.6}, {}))
    state, action, _ = play(phases, 20)
    pose = np.zeros((len(state), 14), np.float32)
    close, up = round(2.4 * 20), round(3.3 * 20)
    pose[close:up, 9] = np.linspace(0, 0.2, up - close)
    pose[up:, 9] = np.linspace(0.2, 0.0, len(pose) - up)
    names = [segment.action for segment in segment_episode(state, action, 20, ALOHA, pose)]
    assert names == ["approach", "reach", "close gripper", "lift", "lower"]


def test_handing_over_has_both_arms_and_the_grippers_in_order() -> None:
    phases = (
        *PICK,
        (1.0, {"right": 0.4, "left": 0.8}, {}),
        (0.6, {}, {"left": 0.0}),
        (0.6, {}, {"right": 1.0}),
        (0.8, {"right": -0.5}, {}),
    )
    state, action, truth = play(phases, 50)
    segments = segment_episode(state, action, 50, ALOHA)
    assert [(segment.arm, segment.action) for segment in segments[3:]] == [
        ("right", "carry"),
        ("both", "reach"),
        ("left", "close gripper"),
        ("right", "open gripper"),
        ("right", "retract"),
    ]
    assert [part.action for part in segments[4].parts] == ["reach", "carry"]
    np.testing.assert_allclose([segment.end / 50 for segment in segments[:-1]], truth, atol=0.2)


def test_a_pause_is_a_cut_and_a_long_rest_is_a_segment() -> None:
    def names(pause: float) -> list[str]:
        state, action, _ = play(((1.0, {"left": 1.0}, {}), (pause, {}, {}), (1.0, {"left": 1.0}, {})), 50)
        return [segment.action for segment in segment_episode(state, action, 50, ALOHA)]

    assert names(0.1) == ["move", "move"]
    assert names(1.5) == ["move", "wait", "move"]


def test_smooth_motion_is_not_cut_and_clearer_dips_give_more_confidence() -> None:
    time = np.linspace(0, 2, 101)[:, None]

    def speed_profile(dip: float) -> np.ndarray:
        speed = 1 - dip * np.exp(-0.5 * ((time - 1) / 0.1) ** 2)
        action = np.zeros((101, 14))
        action[:, :6] = np.cumsum(speed, axis=0) * 0.02
        return action

    def cut(dip: float):
        action = speed_profile(dip)
        return segment_episode(action, action, 50, ALOHA)

    assert len(cut(0.0)) == 1 and len(cut(0.3)) == 1
    shallow, deep = cut(0.7), cut(0.9)
    assert len(shallow) == len(deep) == 2
    assert deep[0].confidence > shallow[0].confidence >= 0.5


def test_robots_without_grippers_are_cut_by_speed_and_sides_come_from_the_yaml() -> None:
    g1 = load_robot("unitree_g1_inspire")
    assert [(arm.name, arm.joints[0], arm.gripper) for arm in robot_arms(g1)] == [("left", 0, None), ("right", 7, None)]
    state = np.zeros((100, 26))
    state[:, 8] = np.linspace(0, 2, 100)
    (segment,) = segment_episode(state, state, 30, g1)
    assert (segment.arm, segment.action) == ("right", "move")


def test_robots_without_sides_are_one_arm() -> None:
    raw = replace(ALOHA, layout="raw", groups=(), action_names=tuple(f"action_{dim}" for dim in range(14)))
    assert robot_arms(raw) == (Arm(name="robot", joints=tuple(range(14))),)
    sided = replace(ALOHA, layout="raw", groups=())
    assert [arm.name for arm in robot_arms(sided)] == ["left", "right"]
    state = np.linspace(0, 1, 60)[:, None] * np.ones(14)
    (segment,) = segment_episode(state, state, 20, raw)
    assert (segment.arm, segment.action) == ("robot", "move")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 120), fps=st.sampled_from([10, 30, 50]))
def test_any_trajectory_gives_ordered_segments(seed: int, length: int, fps: int) -> None:
    rng = np.random.default_rng(seed)
    action = np.cumsum(rng.normal(0, 0.05, (length, 14)), axis=0)
    action[:, [6, 13]] = rng.integers(0, 2, (length // 10 + 1, 2)).repeat(10, axis=0)[:length]
    segments = segment_episode(action, action, fps, ALOHA)
    bounds = [bound for segment in segments for bound in (segment.start, segment.end)]
    assert bounds == sorted(bounds) and all(0 <= bound <= length for bound in bounds)
    for segment in segments:
        assert segment.end - segment.start >= min(length, max(1, round(0.25 * fps)))
        assert segment.action in ACTIONS and 0 <= segment.confidence <= 1


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match="min_seconds is 0"):
        SegmentationSettings(min_seconds=0)
    with pytest.raises(UserError, match="dip is 1.2"):
        SegmentationSettings(dip=1.2)
