"""Hindsight goals on hand-made episodes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.goals import closing_frames, hindsight_goals, opening_frames


def test_closing_needs_to_have_been_open_and_noise_does_not_count() -> None:
    opening = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 0.5, 0.45, 0.55, 0.39, 0.41, 0.3, 0.0, 0.7, 0.2])
    assert closing_frames(opening).tolist() == [8, 13]
    assert opening_frames(opening).tolist() == [3, 12]
    assert closing_frames(np.zeros(5)).tolist() == [] and closing_frames(np.ones(5)).tolist() == []


def test_goal_is_where_the_next_closing_happens() -> None:
    opening = np.ones((8, 2))
    opening[5:, 1] = 0  # the right gripper closes at 5
    opening[3:, 0] = 0  # the left one at 3
    position = np.random.default_rng(0).normal(size=(8, 2, 3))
    goal, mask = hindsight_goals(opening, position)
    assert mask.tolist() == [True] * 5 + [False] * 3
    np.testing.assert_allclose(goal[:3], np.tile(position[3, 0], (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(goal[3:5], np.tile(position[5, 1], (2, 1)), rtol=1e-6)
    assert (goal[5:] == 0).all() and goal.dtype == np.float32


def test_a_gripper_that_closes_twice_gives_both_places() -> None:
    opening = np.array([1, 1, 0, 0, 1, 1, 0.0])[:, None]
    position = np.arange(7.0)[:, None, None] * np.ones(3)
    goal, mask = hindsight_goals(opening, position)
    assert goal[:, 0].tolist() == [2, 2, 6, 6, 6, 6, 0] and mask.tolist() == [True] * 6 + [False]


def test_both_in_one_frame_gives_the_first_gripper() -> None:
    opening = np.array([[1, 1], [1, 1], [0, 0.0]])
    position = np.zeros((3, 2, 3))
    position[2, 0], position[2, 1] = 1, 2
    assert (hindsight_goals(opening, position)[0][:2] == 1).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_label_never_looks_back(values: list[float]) -> None:
    """Cutting off the past changes no label, as long as the gripper was open at the cut."""
    opening = np.array([1.0, *values])[:, None]
    position = np.arange(len(opening))[:, None, None] * np.ones(3)
    goal, mask = hindsight_goals(opening, position)
    for frame in np.flatnonzero(mask):
        assert goal[frame, 0] > frame
    for cut in np.flatnonzero(opening[:, 0] > 0.6):
        again, again_mask = hindsight_goals(opening[cut:], position[cut:])
        assert (again == goal[cut:]).all() and (again_mask == mask[cut:]).all()
