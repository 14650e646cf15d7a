"""A bundle of a real robot: its arms' actions are differences inside the policy and absolute outside."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle import Bundle, create_bundle, load_bundle
from model.errors import UserError
from model.inference import Observation
from model.robots import load_robot

ROBOT = load_robot("unitree_g1_inspire")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return create_bundle(tmp_path_factory.mktemp("bundle") / "g1", robot="unitree_g1_inspire")


def observed(bundle: Bundle, state: np.ndarray) -> Observation:
    image = np.zeros((64, 64, 3), np.uint8)
    return Observation(images={"cam_high": image}, state=state, task=bundle.contract["tasks"][0])


def test_what_a_bundle_says_of_its_differences_survives(bundle: Bundle) -> None:
    subtract = bundle.preparation.subtract
    assert subtract is not None and subtract.action_dims == tuple(range(14))
    written = json.loads((bundle.path / "transforms.json").read_text())["subtract_state"]
    assert written == subtract.to_json()
    again = load_bundle(bundle.path)
    assert again.preparation.subtract == subtract
    assert again.robot == ROBOT
    assert again.self_test() < 1e-4


def test_the_state_is_added_back_to_the_arms_and_not_to_the_hands(bundle: Bundle) -> None:
    state = np.linspace(-0.2, 0.3, 26, dtype=np.float32)
    observation = observed(bundle, state)
    absolute = bundle.infer([observation], seeds=[0])[0]
    noise = torch.randn(
        (1, bundle.config.horizon, bundle.config.dimensions), generator=torch.Generator().manual_seed(0)
    )
    normalised = bundle.policy.sample(bundle.inputs([observation]), noise).numpy()
    inside = bundle.preparation.action.inverse(normalised)[0]
    np.testing.assert_allclose(absolute[:, :14], inside[:, :14] + state[:14], atol=1e-5)
    np.testing.assert_allclose(absolute[:, 14:], inside[:, 14:], atol=1e-5)


def test_a_simulated_robots_bundle_says_nothing_of_differences(tmp_path: Path) -> None:
    """The files of a bundle without differences are what they were."""
    bundle = create_bundle(tmp_path / "aloha", robot="aloha_sim")
    assert bundle.preparation.subtract is None
    transforms = json.loads((bundle.path / "transforms.json").read_text())
    assert set(transforms) == {"cameras", "image", "state", "action", "tasks"}
    assert "subtract_state" not in (bundle.path / "robot.yaml").read_text()
    assert "unverified:" not in (bundle.path / "robot.yaml").read_text()


def test_a_robot_without_a_known_rate_gives_no_untrained_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'realman_rs_02' has no verified control rate: write control_hz in"):
        create_bundle(tmp_path / "bundle", robot="realman_rs_02")
