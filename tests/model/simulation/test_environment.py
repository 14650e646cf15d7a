"""Simulation: observing and acting."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.errors import UserError
from model.simulation.environment import Simulation, StepResult
from model.simulation.expert import Expert
from model.simulation.objects import CUBE_HALF, draw_cube
from model.simulation.scene import CAMERAS
from tests.model.simulation.playing import execute


@pytest.fixture(scope="module")
def simulation() -> Iterator[Simulation]:
    with Simulation("lift_right", image_size=64, render_depth=True) as made:
        yield made


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


LEFT_OPEN = """
import weakref
class Something: pass
one = Something()
weakref.finalize(one, print, "finalized")  # so finalizers are called at exit after what is registered from here on
from model.simulation.environment import Simulation
simulation = Simulation("lift_right", image_size=32)
simulation.reset(3)
simulation.observe()
"""


def test_one_that_was_not_closed_ends_with_the_interpreter_quietly() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN], cwd=root, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("finalized\n", "")
