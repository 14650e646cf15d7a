"""Delta actions: which joints, there and back, statistics per step, and chunks with their padding flagged."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.chunks import action_chunks
from model.data.delta import StepStatistics, SubtractState, delta_statistics
from model.data.normalization import Normalize
from model.data.transforms import transform_from_json
from model.errors import UserError
from model.robots import load_robot


def episode(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A state and an absolute action 0.1 ahead of it in each step, in two dimensions, and a gripper."""
    state = np.random.default_rng(seed).normal(size=(1, 3)) + np.arange(length)[:, None] * [0.1, -0.2, 0.0]
    return state.astype(np.float32), (state + [0.1, -0.2, 0.5]).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 12), horizon=st.integers(1, 9), data=st.data())
def test_chunks_flag_what_lies_past_the_end(length: int, horizon: int, data: st.DataObject) -> None:
    action = np.arange(length, dtype=np.float32)[:, None]
    frames = np.array(data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=5)))
    chunks, padding = action_chunks(action, frames, horizon)
    assert chunks.shape == (len(frames), horizon, 1) and padding.shape == (len(frames), horizon)
    for chunk, past, frame in zip(chunks[..., 0], padding, frames, strict=True):
        inside = min(horizon, length - frame)
        np.testing.assert_array_equal(past, np.arange(horizon) >= inside)
        np.testing.assert_array_equal(chunk[:inside], np.arange(frame, frame + inside))
        assert (chunk[inside:] == length - 1).all()


def test_a_chunk_outside_its_episode_is_refused() -> None:
    with pytest.raises(UserError, match="frame 5 is asked for, the episode has 5 frames"):
        action_chunks(np.zeros((5, 2)), np.array([0, 5]), 3)
    with pytest.raises(UserError, match="horizon is 0"):
        action_chunks(np.zeros((5, 2)), np.array([0]), 0)


@settings(max_examples=30, deadline=None)
@given(dims=st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
def test_there_and_back(dims: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    subtract = SubtractState(tuple(dims), tuple(reversed(dims)))
    actions, state = random.normal(size=(2, 4, 6)), random.normal(size=(2, 6))
    delta = subtract(actions, state)
    np.testing.assert_allclose(subtract.inverse(delta, state), actions, atol=1e-12)
    untouched = [dim for dim in range(6) if dim not in dims]
    np.testing.assert_array_equal(delta[..., untouched], actions[..., untouched])
    np.testing.assert_allclose(delta[:, 0, dims[0]], actions[:, 0, dims[0]] - state[:, dims[-1]])
    assert transform_from_json(json.loads(json.dumps(subtract.to_json()))) == subtract


def test_a_real_robots_arms_are_differences_and_its_grippers_are_not() -> None:
    robot = load_robot("agilex")
    subtract = SubtractState.of(robot)
    assert subtract is not None
    assert subtract.action_dims == (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12) == subtract.state_dims
    assert set(robot.gripper_dims) == {6, 13}
    assert SubtractState.of(load_robot("aloha_sim")) is None and SubtractState.of(load_robot("robotwin_agilex")) is None


def test_statistics_are_of_each_step_and_of_real_steps_alone() -> None:
    subtract = SubtractState((0, 1), (0, 1))
    statistics = delta_statistics([episode(0, 6), episode(1, 4)], 3, subtract)
    assert statistics.mean.shape == (3, 3)
    # the arm is 0.1 further in each step; padding would repeat the last action and pull the mean back
    np.testing.assert_allclose(statistics.mean[:, 0], [0.1, 0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(statistics.std[:, 0], 0, atol=1e-6)
    assert statistics.count == 10
    # normalising [N, T, D] with them and coming back
    normalize = Normalize(statistics, "bounds_99_woclip", epsilon=1e-3)
    state, action = episode(2, 8)
    chunks, _ = action_chunks(action, np.arange(5), 3)
    delta = subtract(chunks, state[:5])
    again = subtract.inverse(normalize.inverse(normalize(delta)), state[:5])
    np.testing.assert_allclose(again, chunks, atol=1e-5)


def test_a_step_beyond_every_episode_has_the_statistics_before_it() -> None:
    statistics = delta_statistics([episode(0, 2)], 4, SubtractState((0,), (0,)))
    np.testing.assert_array_equal(statistics.mean[2:], statistics.mean[[1, 1]])


def test_shards_of_step_statistics_merge() -> None:
    whole, first, second = (StepStatistics(3) for _ in range(3))
    blocks = [action_chunks(episode(seed, 9)[1], np.arange(9), 3) for seed in range(2)]
    for block, shard in zip(blocks, (first, second), strict=True):
        whole.add(*block)
        shard.add(*block)
    second.merge(first)
    assert (second.result().q99 == whole.result().q99).all()
    np.testing.assert_allclose(second.result().std, whole.result().std, rtol=1e-12)


def test_pairs_that_do_not_match_are_refused() -> None:
    with pytest.raises(UserError, match="2 action and 1 state dimensions"):
        SubtractState((0, 1), (0,))
    with pytest.raises(UserError, match="may be given once"):
        SubtractState((0, 0), (0, 1))
