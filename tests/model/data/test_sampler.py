"""Which frames a step sees."""

import numpy as np
import pytest

from model.data.sampler import FrameSampler, task_shares
from model.errors import UserError


def sampler(**changes: object) -> FrameSampler:
    rows = np.arange(1000)
    values = {
        "rows": rows, "early": rows % 10 == 0, "tasks": rows // 500, "early_share": 0.25,
        "task_weights": {0: 0.8, 1: 0.2}, "batch_size": 64, "seed": 7,
    }  # fmt: skip
    return FrameSampler(**(values | changes))  # type: ignore[arg-type]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    assert np.array_equal(sampler().batch(5), sampler().batch(5))
    assert not np.array_equal(sampler().batch(5), sampler().batch(6))
    assert not np.array_equal(sampler().batch(5), sampler(seed=8).batch(5))


def test_shares_of_tasks_and_early_frames_are_kept() -> None:
    drawn = np.concatenate([sampler().batch(step) for step in range(200)])
    # 12,800 draws: three standard errors of a share near 0.25 are 0.012
    assert abs((drawn % 10 == 0).mean() - 0.25) < 0.012
    assert abs((drawn >= 500).mean() - 0.2) < 0.012


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(UserError, match="no training frames"):
        sampler(rows=np.array([], int), early=np.array([], bool), tasks=np.array([], int))
    with pytest.raises(UserError, match="no training frames of the tasks"):
        sampler(task_weights={9: 1.0}).batch(0)


def test_task_shares() -> None:
    assert task_shares([0, 1], None, 0.3) == {0: 0.5, 1: 0.5}
    assert task_shares([0, 1, 2], 1, 0.3) == {0: 0.15, 1: 0.7, 2: 0.15}
    assert task_shares([0], 0, 0.3) == {0: 1.0}
