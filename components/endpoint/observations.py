"""From a client's message to an observation that fits the contract, or a sentence that says what does not fit.

Two dialects, told apart by their keys (PLATFORM_FACTS 3.1, 3.2):

    LingBot  observation.images.cam_high, ..., observation.state, task
    openpi   observation/image, observation/wrist_image, ..., observation/state, prompt
             or images: {cam_high: [3, H, W]}, state, prompt (openpi's ALOHA)

The instruction may be called `task` or `prompt` in both. A camera may be given by its own name in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.endpoint.codec import array_of_list
from components.endpoint.contract import Camera, Contract
from components.endpoint.errors import BadMessage, BadObservation
from model.errors import unknown_name

MAX_TASK_LENGTH = 1000
MAX_BATCH = 8
_MIN_SIDE, _MAX_SIDE = 16, 4096  # pixels; the bundle resizes as in training
_MAX_SEED = 2**32 - 1
_LINGBOT_IMAGES = "observation.images."
_LINGBOT_STATE = "observation.state"
_OPENPI = "observation/"
_OPENPI_STATE = "observation/state"
# openpi's image keys (LIBERO, DROID) by what they show.
_OPENPI_ROLES = {
    "image": "high",
    "exterior_image_1_left": "high",
    "wrist_image": "wrist",
    "left_wrist_image": "left_wrist",
    "wrist_image_left": "left_wrist",
    "right_wrist_image": "right_wrist",
    "wrist_image_right": "right_wrist",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One observation that fits the contract. `images` are u8 [H,W,3] by camera name, `state` is f32 [S], finite."""

    images: dict[str, np.ndarray]
    state: np.ndarray
    task: str
    seed: int | None


def is_reset(message: Mapping[str, Any]) -> bool:
    """LingBot sends `reset: True`, vLLM-Omni sends `endpoint: "reset"`."""
    wanted, endpoint = message.get("reset"), message.get("endpoint")
    return (isinstance(wanted, int | np.bool_) and bool(wanted)) or (isinstance(endpoint, str) and endpoint == "reset")


def check_reset(message: Mapping[str, Any], contract: Contract) -> None:
    """A reset may name the robot; it may not choose what is served.

    Raises:
        BadObservation
    """
    path = message.get("path_to_pi_model")
    if path is not None and not (isinstance(path, str) and path == ""):
        raise BadObservation(
            "path_to_pi_model is refused: this server serves one verified bundle, chosen where it runs"
        )
    name = message.get("robo_name")
    if name is not None and not (isinstance(name, str) and name in contract.robot_names):
        raise BadObservation(str(unknown_name("robo_name", str(name), contract.robot_names)))


def read_requests(message: Any, contract: Contract) -> tuple[list[Request], bool]:
    """The observations of one message and whether it was a batch (`{"batch": [...]}`, as LingBot v2 sends it).

    Raises:
        BadMessage, BadObservation
    """
    if not isinstance(message, Mapping):
        raise BadMessage("a message is one map of keys to values")
    batch = message.get("batch")
    if batch is None:
        return [read_request(message, contract)], False
    if (
        not isinstance(batch, list)
        or not 1 <= len(batch) <= MAX_BATCH
        or not all(isinstance(m, Mapping) for m in batch)
    ):
        raise BadObservation(f"batch must be a list of 1 to {MAX_BATCH} observations")
    return [read_request(item, contract) for item in batch], True


def read_request(message: Mapping[str, Any], contract: Contract) -> Request:
    """One observation.

    Raises:
        BadObservation: naming the key, what was sent, what is expected, and the nearest valid name.
    """
    views, state_key = _views(message, contract)
    names = [camera.name for _, camera, _, _ in views]
    for name in names:
        if names.count(name) > 1:
            raise BadObservation(
                f"the view of {name} is sent {names.count(name)} times under different keys: send it once"
            )
    images = {camera.name: _image(key, value, camera, channels_first) for key, camera, value, channels_first in views}
    missing = [camera.name for camera in contract.cameras if camera.name not in images]
    if missing:
        raise BadObservation(f"the view of {', '.join(missing)} is missing: send {_expected_views(message, contract)}")
    return Request(
        images=images, state=_state(state_key, message, contract), task=_task(message), seed=_seed(message.get("seed"))
    )


def _views(message: Mapping[str, Any], contract: Contract) -> tuple[list[tuple[str, Camera, Any, bool]], str]:
    """(key, camera, value, may be channels first) of each image, and the key of the state."""
    lingbot = any(isinstance(key, str) and key.startswith("observation.") for key in message)
    openpi = any(isinstance(key, str) and key.startswith(_OPENPI) for key in message)
    if lingbot and openpi:
        raise BadObservation("the message mixes keys with 'observation.' and 'observation/': use one dialect")
    if lingbot:
        keys = [key for key in message if isinstance(key, str) and key.startswith("observation.")]
        known = [_LINGBOT_IMAGES + camera.name for camera in contract.cameras]
        for key in keys:
            if key != _LINGBOT_STATE and key not in known:
                raise BadObservation(str(unknown_name("key", key, [*known, _LINGBOT_STATE])))
        return [
            (_LINGBOT_IMAGES + camera.name, camera, message[_LINGBOT_IMAGES + camera.name], False)
            for camera in contract.cameras
            if _LINGBOT_IMAGES + camera.name in message
        ], _LINGBOT_STATE
    if openpi:
        keys = [key for key in message if isinstance(key, str) and key.startswith(_OPENPI) and key != _OPENPI_STATE]
        return [(key, _openpi_camera(key, contract), message[key], False) for key in keys], _OPENPI_STATE
    images = message.get("images")
    if isinstance(images, Mapping):
        views = []
        for name, value in images.items():
            camera = contract.camera(name)
            if camera is None:
                raise BadObservation(str(unknown_name("camera", str(name), [c.name for c in contract.cameras])))
            views.append((f"images/{name}", camera, value, True))
        return views, "state"
    raise BadObservation(
        f"no observation in the message: send {_expected_views(message, contract)}, {_LINGBOT_STATE} and task"
    )


def _openpi_camera(key: str, contract: Contract) -> Camera:
    name = key.removeprefix(_OPENPI).removeprefix("images/")
    camera = contract.camera(name)
    if camera is not None:
        return camera
    role = _OPENPI_ROLES.get(name)
    if role is not None:
        cameras = contract.with_role(role)
        if len(cameras) == 1:
            return cameras[0]
        if cameras:
            raise BadObservation(
                f"{key} may be any of {', '.join(c.name for c in cameras)}: send observation/left_wrist_image "
                f"and observation/right_wrist_image"
            )
    valid = [_OPENPI + camera.name for camera in contract.cameras]
    valid += [_OPENPI + name for name, role in _OPENPI_ROLES.items() if len(contract.with_role(role)) == 1]
    raise BadObservation(str(unknown_name("key", key, [*valid, _OPENPI_STATE])))


def _image(key: str, value: Any, camera: Camera, may_be_channels_first: bool) -> np.ndarray:
    array = _array(key, value)
    if array.dtype != np.uint8:
        whole = array.dtype.kind in "iu" and array.size > 0 and array.min() >= 0 and array.max() <= 255
        if not whole:
            raise BadObservation(f"{key} has dtype {array.dtype}: send uint8 values from 0 to 255")
        array = array.astype(np.uint8)
    if may_be_channels_first and array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.ndim != 3 or array.shape[2] != 3 or not all(_MIN_SIDE <= side <= _MAX_SIDE for side in array.shape[:2]):
        raise BadObservation(
            f"{key} has shape {array.shape}: send (height, width, 3) in RGB with sides of {_MIN_SIDE} to {_MAX_SIDE}, "
            f"best as ({camera.height}, {camera.width}, 3), the size that the policy sees"
        )
    return array


def _state(key: str, message: Mapping[str, Any], contract: Contract) -> np.ndarray:
    value = message.get(key)
    if value is None:
        raise BadObservation(f"{key} is missing: send {len(contract.state)} values, {_in_order(contract.state)}")
    array = _array(key, value)
    if array.dtype.kind not in "iuf":
        raise BadObservation(f"{key} has dtype {array.dtype}: send numbers")
    if array.shape != (len(contract.state),):
        raise BadObservation(
            f"{key} has shape {array.shape}: the policy expects ({len(contract.state)},), {_in_order(contract.state)}"
        )
    with np.errstate(over="ignore"):
        state = array.astype(np.float32)
    if not np.isfinite(state).all():
        name = contract.state[int(np.flatnonzero(~np.isfinite(state))[0])]
        raise BadObservation(f"{key} is not finite at '{name}': send a measured value")
    return state


def _task(message: Mapping[str, Any]) -> str:
    given = [message[key] for key in ("task", "prompt") if message.get(key) is not None]
    if not given:
        raise BadObservation("the instruction is missing: send it as task or prompt")
    task = given[0]
    if not all(isinstance(one, str) and one.strip() and len(one) <= MAX_TASK_LENGTH for one in given):
        raise BadObservation(f"the instruction must be a text of 1 to {MAX_TASK_LENGTH} characters")
    if len(given) == 2 and task != given[1]:
        raise BadObservation("task and prompt differ: send one instruction")
    return task


def _seed(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= _MAX_SEED:
        raise BadObservation(f"seed must be a whole number from 0 to {_MAX_SEED}")
    return int(value)


def _array(key: str, value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list):
        raise BadObservation(f"{key} must be an array, not {type(value).__name__}")
    array = array_of_list(value)
    if array is None:
        raise BadObservation(f"{key} is a list of uneven length or of values that are no numbers")
    return array


def _in_order(names: tuple[str, ...]) -> str:
    return "in this order: " + ", ".join(names)


def _expected_views(message: Mapping[str, Any], contract: Contract) -> str:
    openpi = any(isinstance(key, str) and key.startswith(_OPENPI) for key in message)
    prefix = _OPENPI if openpi else _LINGBOT_IMAGES
    return ", ".join(prefix + camera.name for camera in contract.cameras)
