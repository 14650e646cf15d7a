"""Simulation: observing, acting, judging; and that the expert solves what it should."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.simulation.environment import Simulation, StepResult
from model.simulation.expert import Expert
from model.simulation.scene import CAMERAS, CUBE_HALF, NAMES
from model.simulation.tasks import CLEARANCE, TASKS, Contacts, draw_cube, find_task


@pytest.fixture(scope="module")
def simulation() -> Iterator[Simulation]:
    with Simulation("lift_right", image_size=64, render_depth=True) as made:
        yield made


def execute(simulation: Simulation, actions: np.ndarray, seed: int, noise: float = 0.0) -> list[StepResult]:
    """Runs `actions` from the scene of `seed`, with noise on the joints as `collect` adds it."""
    rng = np.random.default_rng((seed, 2))
    simulation.reset(seed)
    results = []
    for action in actions:
        disturbance = rng.normal(0.0, noise, size=len(NAMES))
        disturbance[[6, 13]] = 0.0
        results.append(simulation.step(action + disturbance))
    return results


def test_an_observation_has_the_shapes_of_the_contract(simulation: Simulation) -> None:
    simulation.reset(3)
    seen = simulation.observe()
    assert set(seen["images"]) == set(seen["depth"]) == set(CAMERAS)
    for camera in CAMERAS:
        assert seen["images"][camera].shape == (64, 64, 3) and seen["images"][camera].dtype == np.uint8
        assert seen["depth"][camera].shape == (64, 64) and seen["depth"][camera].dtype == np.float32
    assert seen["state"].shape == (14,) and seen["state"].dtype == np.float32
    assert seen["eef_pose"].shape == (14,) and seen["eef_pose"].dtype == np.float32
    assert np.allclose(np.linalg.norm(seen["eef_pose"].reshape(2, 7)[:, 3:], axis=1), 1.0, atol=1e-5)


def test_depth_is_metric(simulation: Simulation) -> None:
    """The camera is 1.2 m above the table, the cube 4 cm high; what lies beyond 5 m is no return."""
    simulation.reset(3)
    seen = simulation.observe()
    depth, image = seen["depth"]["cam_high"], seen["images"]["cam_high"]
    cube = image[..., 0].astype(int) - image[..., 1] > 120
    assert cube.any()
    assert np.median(depth[cube]) == pytest.approx(1.2 - 2 * CUBE_HALF, abs=2e-3)
    assert np.median(depth) == pytest.approx(1.2, abs=2e-3)
    assert (seen["depth"]["cam_left_wrist"] == 0).any()


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_the_high_camera_sees_the_cube_where_it_is(simulation: Simulation, seed: int) -> None:
    simulation.reset(seed)
    image = simulation.observe()["images"]["cam_high"].astype(int)
    rows, columns = np.nonzero(image[..., 0] - image[..., 1] > 120)
    span = 2 * (1.2 - 2 * CUBE_HALF) * np.tan(np.deg2rad(27.0) / 2)
    x = ((columns.mean() + 0.5) / 64 - 0.5) * span
    y = 0.5 - ((rows.mean() + 0.5) / 64 - 0.5) * span
    assert np.hypot(x - draw_cube(seed)[0], y - draw_cube(seed)[1]) < 0.01


def test_equal_seeds_and_actions_give_equal_episodes(simulation: Simulation) -> None:
    actions = Expert("lift_right").plan(7)[:8]
    observed = []
    for _ in range(2):
        execute(simulation, actions, 7)
        observed.append(simulation.observe())
    assert np.array_equal(observed[0]["state"], observed[1]["state"])
    for camera in CAMERAS:
        assert np.array_equal(observed[0]["images"][camera], observed[1]["images"][camera])
        assert np.array_equal(observed[0]["depth"][camera], observed[1]["depth"][camera])


def test_the_scene_does_not_depend_on_the_task() -> None:
    poses = []
    for task in TASKS:
        made = Simulation(task, image_size=32)
        made.reset(11)
        poses.append(np.concatenate([made.state(), made.cube_pose()]))
    assert all(np.array_equal(pose, poses[0]) for pose in poses)


def test_holding_still_stays_still_and_passes_nothing(simulation: Simulation) -> None:
    simulation.reset(4)
    start = simulation.state()
    result = [simulation.step(start) for _ in range(10)][-1]
    assert np.abs(simulation.state() - start).max() < 0.02
    assert result == StepResult(checkpoints_passed=0, success=False, time=1.0)


def test_the_controller_interpolates(simulation: Simulation) -> None:
    """The same target given at 10 Hz or as its five 50 Hz parts leads to the same state."""
    fast = Simulation("lift_right", image_size=32, fps=50)
    for made in (simulation, fast):
        made.reset(0)
    start = simulation.state().astype(np.float64)
    target = start + 0.1
    simulation.step(target)
    for tick in range(1, 6):
        fast.step(start + (target - start) * tick / 5)
    assert np.allclose(simulation.state(), fast.state(), atol=1e-6)


@pytest.mark.parametrize("task", ["lift_right", "lift_left"])
def test_the_expert_lifts_with_the_named_arm_only(task: str) -> None:
    """Also that another arm's lift is no success, and that a failed grasp passes no more than it did."""
    other = "lift_left" if task == "lift_right" else "lift_right"
    judge, impostor = Simulation(task, image_size=32), Simulation(other, image_size=32)
    expert = Expert(task)
    passed = []
    for seed in range(6):
        actions = expert.plan(seed)
        results = execute(judge, actions, seed, noise=0.02)
        passed.append(results[-1].success)
        counts = [result.checkpoints_passed for result in results]
        assert counts == sorted(counts)
        assert results[-1].time < judge.task.max_seconds
    assert sum(passed) >= 5
    results = execute(impostor, expert.plan(0), 0)
    assert results[-1].checkpoints_passed == 0 and not results[-1].success


def test_the_expert_transfers() -> None:
    judge, expert = Simulation("transfer", image_size=32), Expert("transfer")
    passed = [execute(judge, expert.plan(seed), seed)[-1] for seed in range(3)]
    assert sum(result.success for result in passed) >= 2
    assert passed[0].checkpoints_passed == len(judge.task.checkpoints)


def test_success_needs_the_cube_to_be_held_for_a_while() -> None:
    """The expert's trajectory cut at the first frame of 'lifted' is no success; 0.2 s later it is."""
    judge = Simulation("lift_right", image_size=32, fps=50)
    results = execute(judge, Expert("lift_right", fps=50).plan(0), 0)
    lifted = next(index for index, result in enumerate(results) if result.checkpoints_passed == 3)
    held = next(index for index, result in enumerate(results) if result.success)
    assert held - lifted >= 10


def test_aiming_beside_the_cube_fails() -> None:
    judge, expert = Simulation("lift_right", image_size=32), Expert("lift_right")
    actions = expert.plan_for(draw_cube(0)[:3] + (0.0, 0.06, 0.0), np.ones(16))
    assert not execute(judge, actions, 0)[-1].success


def test_a_plan_is_a_function_of_its_seed_and_within_one_frame_of_the_last() -> None:
    expert = Expert("lift_left")
    first, again, other = expert.plan(5), expert.plan(5), expert.plan(6)
    assert np.array_equal(first, again)
    assert first.shape[1] == 14 and not np.array_equal(first[:20], other[:20])
    assert np.abs(np.diff(first[:, :6], axis=0)).max() < 0.5
    # The idle arm rests at home.
    assert np.ptp(first[:, 7:], axis=0).max() == 0


@given(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.floats(0, 0.3))
def test_more_contact_is_never_less_progress(left: int, right: int, table: bool, height: float) -> None:
    contacts = Contacts(left=left, right=right, table=table, height=height)
    lift = find_task("lift_right")
    stage = lift.stage(contacts)
    assert stage == lift.stage(Contacts(left=0, right=right, table=table, height=height))
    assert (stage == 3) == (right == 2 and not table and height >= CLEARANCE)
    mirrored = Contacts(left=right, right=left, table=table, height=height)
    assert find_task("lift_left").stage(mirrored) == stage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "lift_rigth"}, "Did you mean 'lift_right'"),
        ({"task": "lift_right", "cameras": ("cam_hihg",)}, "Did you mean 'cam_high'"),
        ({"task": "lift_right", "fps": 7}, "fps 7"),
        ({"task": "lift_right", "image_size": 4}, "image_size 4"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Simulation(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [np.zeros(13), np.full(14, np.nan)])
def test_a_wrong_action_is_refused(simulation: Simulation, action: np.ndarray) -> None:
    simulation.reset(0)
    with pytest.raises(UserError, match="14 finite numbers"):
        simulation.step(action)
