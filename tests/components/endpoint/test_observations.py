"""Both dialects, and a sentence for everything that does not fit the contract."""

import numpy as np
import pytest

from components.endpoint.contract import Contract
from components.endpoint.errors import BadMessage, BadObservation
from components.endpoint.observations import check_reset, is_reset, read_request, read_requests

SIZE = 56


@pytest.fixture(scope="module")
def contract(bundle):
    return Contract.of(bundle)


def view(value=0):
    return np.full((SIZE, SIZE, 3), value, dtype=np.uint8)


@pytest.fixture
def lingbot():
    return {
        "observation.images.cam_high": view(1),
        "observation.images.cam_left_wrist": view(2),
        "observation.images.cam_right_wrist": view(3),
        "observation.state": np.arange(14, dtype=np.float32) / 10,
        "task": "lift the cube",
    }


def values(request):
    return {name: int(image[0, 0, 0]) for name, image in request.images.items()}


VALUES = {"cam_high": 1, "cam_left_wrist": 2, "cam_right_wrist": 3}


def test_lingbot_dialect(lingbot, contract):
    request = read_request(lingbot, contract)
    assert values(request) == VALUES
    assert request.state.dtype == np.float32 and request.state.shape == (14,)
    assert request.task == "lift the cube" and request.seed is None


@pytest.mark.parametrize(
    "names",
    [
        ("image", "left_wrist_image", "right_wrist_image"),
        ("exterior_image_1_left", "wrist_image_left", "wrist_image_right"),
        ("cam_high", "cam_left_wrist", "cam_right_wrist"),
        ("images/cam_high", "images/cam_left_wrist", "images/cam_right_wrist"),
    ],
)
def test_openpi_dialect(lingbot, contract, names):
    message = {f"observation/{name}": view(i + 1) for i, name in enumerate(names)}
    message |= {"observation/state": lingbot["observation.state"], "prompt": "lift the cube", "seed": 5}
    request = read_request(message, contract)
    assert values(request) == VALUES
    assert request.task == "lift the cube" and request.seed == 5


def test_openpi_aloha_sends_channels_first(lingbot, contract):
    images = {name: np.ascontiguousarray(view(value).transpose(2, 0, 1)) for name, value in VALUES.items()}
    request = read_request({"images": images, "state": lingbot["observation.state"], "prompt": "lift"}, contract)
    assert values(request) == VALUES
    assert all(image.shape == (SIZE, SIZE, 3) for image in request.images.values())


def test_other_sizes_are_left_to_the_bundle(lingbot, contract):
    lingbot["observation.images.cam_high"] = np.zeros((48, 64, 3), dtype=np.uint8)
    assert read_request(lingbot, contract).images["cam_high"].shape == (48, 64, 3)


def test_lists_and_whole_numbers_become_uint8(lingbot, contract):
    lingbot["observation.images.cam_high"] = view(9).tolist()
    lingbot["observation.state"] = [0] * 14
    request = read_request(lingbot, contract)
    assert request.images["cam_high"].dtype == np.uint8 and request.images["cam_high"][0, 0, 0] == 9


CASES = {
    "unknown camera": ({"observation.images.cam_hihg": view()}, "cam_hihg.*Did you mean 'observation.images.cam_high'"),
    "missing camera": ({"observation.images.cam_high": None}, "view of cam_high is missing"),
    "float image": ({"observation.images.cam_high": view().astype(np.float32)}, "dtype float32: send uint8"),
    "grey image": ({"observation.images.cam_high": np.zeros((SIZE, SIZE), np.uint8)}, "shape .56, 56.: send .height"),
    "channels first": ({"observation.images.cam_high": np.zeros((3, 56, 56), np.uint8)}, "send .height, width, 3"),
    "huge image": ({"observation.images.cam_high": np.zeros((16, 5000, 3), np.uint8)}, "sides of 16 to 4096"),
    "values over 255": ({"observation.images.cam_high": np.full((56, 56, 3), 300)}, "send uint8"),
    "text for an image": ({"observation.images.cam_high": "x"}, "must be an array, not str"),
    "short state": (
        {"observation.state": np.zeros(7)},
        r"shape \(7,\): the policy expects \(14,\), in this order: left",
    ),
    "nan state": (
        {"observation.state": np.array([0.0] * 3 + [np.nan] + [0.0] * 10)},
        "not finite at 'left_forearm_roll'",
    ),
    "inf after rounding": ({"observation.state": np.array([1e300] + [0.0] * 13)}, "not finite at 'left_waist'"),
    "bool state": ({"observation.state": np.zeros(14, bool)}, "dtype bool: send numbers"),
    "ragged state": ({"observation.state": [1, [2]]}, "uneven length"),
    "text in a state": ({"observation.state": ["a"] * 14}, "no numbers"),
    "no state": ({"observation.state": None}, "observation.state is missing: send 14 values"),
    "no task": ({"task": None}, "instruction is missing"),
    "empty task": ({"task": " "}, "text of 1 to 1000"),
    "long task": ({"task": "x" * 1001}, "text of 1 to 1000"),
    "task is bytes": ({"task": b"lift"}, "text of 1 to 1000"),
    "two tasks": ({"prompt": "other"}, "task and prompt differ"),
    "bad seed": ({"seed": -1}, "seed must be"),
    "bool seed": ({"seed": True}, "seed must be"),
    "mixed dialects": ({"observation/state": np.zeros(14)}, "mixes keys"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_said(lingbot, contract, case):
    changes, words = CASES[case]
    lingbot.update(changes)
    message = {key: value for key, value in lingbot.items() if value is not None}
    with pytest.raises(BadObservation, match=words):
        read_request(message, contract)


def test_openpi_names_are_checked_too(lingbot, contract):
    base = {"observation/state": lingbot["observation.state"], "prompt": "x"}
    with pytest.raises(BadObservation, match="Did you mean 'observation/left_wrist_image'"):
        read_request(base | {"observation/left_wrist_imag": view()}, contract)
    with pytest.raises(BadObservation, match="may be any of cam_left_wrist, cam_right_wrist"):
        read_request(base | {"observation/wrist_image": view()}, contract)
    with pytest.raises(BadObservation, match="cam_high is sent 2 times"):
        read_request(base | {"observation/image": view(), "observation/cam_high": view()}, contract)
    with pytest.raises(BadObservation, match="send observation/cam_high"):
        read_request(base, contract)


def test_messages_without_an_observation(contract):
    with pytest.raises(BadObservation, match="no observation in the message"):
        read_requests({"hello": 1}, contract)
    with pytest.raises(BadMessage, match="one map"):
        read_requests([1, 2], contract)


def test_batches_are_bounded(lingbot, contract):
    requests, is_batch = read_requests({"batch": [lingbot, lingbot]}, contract)
    assert len(requests) == 2 and is_batch
    for bad in ([], [lingbot] * 9, "x", [1]):
        with pytest.raises(BadObservation, match="batch must be"):
            read_requests({"batch": bad}, contract)


def test_resets(contract):
    assert is_reset({"reset": True}) and is_reset({"endpoint": "reset"}) and not is_reset({"task": "x"})
    check_reset({"reset": True, "robo_name": "aloha_sim_bimanual_viperx"}, contract)
    with pytest.raises(BadObservation, match="Did you mean 'aloha_sim'"):
        check_reset({"reset": True, "robo_name": "aloha_simm"}, contract)
    with pytest.raises(BadObservation, match="path_to_pi_model is refused"):
        check_reset({"reset": True, "path_to_pi_model": "/etc"}, contract)
