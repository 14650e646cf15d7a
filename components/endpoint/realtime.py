"""Real-time chunking over the wire: a request that carries the chunk its robot is executing meanwhile.

    prev_chunk_left_over  [R,A], robot units: what is left of the running chunk at the moment of the observation, or
    prev_chunk_offset     how many actions of the last answer in this episode were executed by then
    inference_delay       actions that will have been executed before the answer arrives (default 0); it repeats them
    execution_horizon     where the pull towards the running chunk ends (default: as far as it reaches)

The names and their meaning are LeRobot's, except the offset, which spares a robot from sending back what this server
sent to it. (`model.inference.Running` counts the horizon from the other end, as the paper does.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.endpoint.codec import array_of_list
from components.endpoint.contract import Contract
from components.endpoint.errors import BadObservation

_LEFT_OVER, _OFFSET = "prev_chunk_left_over", "prev_chunk_offset"
KEYS = (_LEFT_OVER, _OFFSET, "inference_delay", "execution_horizon")


@dataclass(frozen=True, kw_only=True, eq=False)
class RunningChunk:
    """`actions` f32 [T,A], its end held to the length of a chunk; `delay` of them are committed, `free` are new."""

    actions: np.ndarray
    delay: int
    free: int

    @property
    def group(self) -> tuple[int, int]:
        """Requests of one group go through the model together."""
        return self.delay, self.free


def asks(message: Mapping[str, Any]) -> bool:
    return any(message.get(key) is not None for key in KEYS)


def read_running(message: Mapping[str, Any], contract: Contract, last_chunk: np.ndarray | None) -> RunningChunk | None:
    """The running chunk of a request; None when it asks for a fresh one.

    Args:
        message: of one observation.
        contract: of the episode's version.
        last_chunk: f32 [T,A], what was last sent in this episode.

    Raises:
        BadObservation: a chunk of another shape, values that are not finite, or numbers that do not fit together.
    """
    if not asks(message):
        return None
    left = _left_over(message, contract, last_chunk)
    # At least one action must be new, and there is nothing to be pulled to beyond what is left.
    reach = min(len(left), contract.horizon - 1)
    horizon = _whole(message, "execution_horizon", 1, contract.horizon, reach)
    guided = min(horizon, reach)
    delay = _whole(message, "inference_delay", 0, guided, 0)
    missing = np.repeat(left[-1:], contract.horizon - len(left), axis=0)
    return RunningChunk(actions=np.concatenate([left, missing]), delay=delay, free=contract.horizon - guided)


def _left_over(message: Mapping[str, Any], contract: Contract, last_chunk: np.ndarray | None) -> np.ndarray:
    given, offset = message.get(_LEFT_OVER), message.get(_OFFSET)
    if (given is None) == (offset is None):
        raise BadObservation(f"a running chunk is told by one of {_LEFT_OVER} and {_OFFSET}: send one of them")
    if given is None:
        if last_chunk is None:
            raise BadObservation(
                f"{_OFFSET} counts in the last answer of this episode, and there was none: send {_LEFT_OVER}, or "
                f"leave it out"
            )
        left = last_chunk[_whole(message, _OFFSET, 0, len(last_chunk) - 1, 0) :]
        return left[: contract.horizon]  # in a replay it may be a longer one's
    array = array_of_list(given) if isinstance(given, list) else given
    if not isinstance(array, np.ndarray):
        raise BadObservation(f"{_LEFT_OVER} is no array, or a list of uneven length or of values that are no numbers")
    width = len(contract.action)
    fits = array.ndim == 2 and array.shape[1] == width and 1 <= len(array) <= contract.horizon
    if not fits or array.dtype.kind not in "iuf":
        raise BadObservation(
            f"{_LEFT_OVER} has shape {array.shape} and dtype {array.dtype}: send 1 to {contract.horizon} rows of "
            f"{width} numbers, in the robot's units and order"
        )
    with np.errstate(over="ignore"):
        left = array.astype(np.float32)
    if not np.isfinite(left).all():
        raise BadObservation(f"{_LEFT_OVER} has values that are not finite: send what the robot is executing")
    return left


def _whole(message: Mapping[str, Any], key: str, lowest: int, highest: int, default: int) -> int:
    value = message.get(key)
    if value is None:
        return default
    if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0:
        value = value.item()
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise BadObservation(f"{key} must be a whole number from {lowest} to {highest}")
    return value
