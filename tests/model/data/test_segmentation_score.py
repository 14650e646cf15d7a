"""Scores of cuts, and the cuts of simulated demonstrations against what the expert says that it did."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.segmentation import segment_episode
from model.data.segmentation_score import BoundaryScore, boundaries, mean_iou, score_boundaries
from model.robots import load_robot

TIMES = st.lists(st.floats(0, 10, allow_nan=False), max_size=8)


def test_a_boundary_is_paired_once() -> None:
    score = score_boundaries([1.0, 1.1], [1.05], tolerance=0.2)
    assert (score.matched, score.found, score.true) == (1, 2, 1)
    assert score.f1 == pytest.approx(2 / 3) and score.mean_distance == pytest.approx(0.05)


def test_as_many_pairs_as_can_be_had() -> None:
    """1.2 lies nearer to 1.15 than 1.0 does; taking it first would leave 1.0 and 1.35 without a partner."""
    assert score_boundaries([1.0, 1.2], [1.15, 1.35], tolerance=0.2).matched == 2


@pytest.mark.parametrize(("distance", "matched"), [(0.2, 1), (0.21, 0)])
def test_the_tolerance_counts(distance: float, matched: int) -> None:
    assert score_boundaries([5.0], [5.0 + distance], tolerance=0.2).matched == matched


@given(TIMES, TIMES)
def test_scores_are_symmetric_and_bounded(a: list[float], b: list[float]) -> None:
    one, other = score_boundaries(a, b), score_boundaries(b, a)
    assert one.f1 == pytest.approx(other.f1) and 0 <= one.f1 <= 1
    assert one.matched <= min(len(a), len(b))
    assert score_boundaries(a, a).f1 == 1.0


def test_episodes_are_added() -> None:
    total = score_boundaries([1.0], [1.0]) + score_boundaries([1.0], [3.0])
    assert total == BoundaryScore(matched=1, found=2, true=2, distance=0.0) and total.f1 == 0.5


def test_overlap_of_segments() -> None:
    assert mean_iou([(0, 1), (1, 2)], [(0, 1), (1, 2)]) == 1.0
    assert mean_iou([(0, 1)], [(0, 2), (2, 3)]) == pytest.approx(0.25)
    assert mean_iou([], [(0, 1)]) == 0.0 and mean_iou([], []) == 1.0


@pytest.mark.parametrize("fps", [10, 50])
@pytest.mark.parametrize("task", ["transfer", "insertion"])
def test_demonstrations_are_cut_where_the_expert_changed_what_it_did(task: str, fps: int) -> None:
    """Boundary F1 within 0.2 s of at least 0.85."""
    from model.simulation.environment import Simulation
    from model.simulation.expert import Expert

    expert, robot = Expert(task, fps=fps), load_robot("aloha_sim")
    score = BoundaryScore()
    with Simulation(task, image_size=16, fps=fps, render_depth=False) as simulation:
        for seed in (500, 501, 502):
            simulation.reset(seed)
            plan, states, poses = expert.plan(seed), [], []
            for action in plan:
                states.append(simulation.state())
                poses.append(simulation.eef_pose())
                simulation.step(action)
            found = segment_episode(np.array(states), plan, fps, robot, np.array(poses))
            phases = expert.phases(seed)
            while not phases[-1][2]:  # a static tail is no segment
                phases.pop()
            cuts = boundaries([(segment.start / fps, segment.end / fps) for segment in found])
            score += score_boundaries(cuts, boundaries([(start, end) for start, end, _ in phases]))
    assert score.f1 >= 0.85
