"""openpi's wire format: msgpack with numpy arrays as maps whose keys are bin (PLATFORM_FACTS 3.1).

    array  {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [..]}
    scalar {b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}

The decoder is the endpoint's own because the known ones trust the sender: one crashes on an object dtype, another
unpickles. Here a dtype is one of a short list, the byte count must be the product of the shape exactly, the cost of a
message is bounded before it is paid, and what comes out cannot be written.
"""

import math
import re
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgpack
import numpy as np

from components.endpoint.errors import BadMessage, TooLarge

_ARRAY = b"__ndarray__"
_SCALAR = b"__npgeneric__"
_DTYPE = re.compile(r"[<>|=]?(u1|i1|i2|i4|i8|f2|f4|f8|b1)\Z")
_SENDABLE_KINDS = "biuf"
_NUMBERS = (int, float, np.number, np.bool_)
_MAX_DIMENSIONS = 6
# How deep msgpack itself may nest before `depth` is checked: 1,024 levels of lists, whose memory `_MAX_LIST` bounds.
_MAX_LIST = 1024
_MAX_TEXT = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a message may cost: an observation has under 20 elements in 3 levels, three raw 1080p views are 19 MB."""

    max_bytes: int = 32 * 1024 * 1024
    max_elements: int = 4096
    max_depth: int = 8


DEFAULT_LIMITS = Limits()


def pack(value: Any) -> bytes:
    """Encodes dicts, lists, text, numbers, None and numpy arrays of bool, int, uint and float.

    Raises:
        TypeError: for anything else, object and complex arrays included.
    """
    return msgpack.packb(value, default=_encode, use_bin_type=True)


def unpack(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Any:
    """Decodes one message from an untrusted sender. Arrays are in native byte order, cannot be written, and share
    nothing with `data`.

    Raises:
        TooLarge: when the message has more bytes than the limit.
        BadMessage: when it is no message, or breaks another limit.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"a message of {len(data)} bytes is over the limit of {limits.max_bytes}: send smaller images")
    decoder = _Decoder(limits)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=decoder.on_map,
            list_hook=decoder.on_list,
            ext_hook=_refuse_extension,
            max_str_len=_MAX_TEXT,
            max_bin_len=limits.max_bytes,
            max_array_len=_MAX_LIST,
            max_map_len=_MAX_LIST,
            max_ext_len=0,
        )
    except BadMessage:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise BadMessage(f"not a msgpack message of the openpi protocol: {reason}") from error
    _check_depth(value, limits.max_depth)
    return value


class _Decoder:
    """Hooks that msgpack calls for each finished list and map, innermost first: they count, and build the arrays."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._elements = 0

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > self._limits.max_elements:
            raise BadMessage(
                f"a message of more than {self._limits.max_elements} elements: send numbers as one array, not as lists"
            )

    def on_list(self, items: list[Any]) -> list[Any]:
        self._count(len(items))
        return items

    def on_map(self, pairs: list[tuple[Any, Any]]) -> Any:
        self._count(len(pairs))
        result = dict(pairs)
        if len(result) != len(pairs):
            raise BadMessage("a map holds the same key twice")
        if _ARRAY in result:
            return _decode_array(result)
        if _SCALAR in result:
            return _decode_scalar(result)
        return result


def _encode(value: Any) -> dict[bytes, Any]:
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in _SENDABLE_KINDS:
            raise TypeError(f"cannot send an array of {value.dtype}: bool, integers and floats go over the wire")
        if isinstance(value, np.ndarray):
            return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": list(value.shape)}
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot send a {type(value).__name__}")


def build_array(dtype: Any, shape: Any, data: Any) -> np.ndarray:
    """The array that an untrusted sender describes, in native byte order. It may share `data`, and cannot be written.

    Raises:
        BadMessage: when the dtype is not on the list, or the bytes are not the product of the shape.
    """
    checked = _dtype(dtype)
    if not isinstance(data, bytes):
        raise BadMessage("the data of an array must be bytes")
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS
        or not all(type(size) is int and 0 <= size <= 2**40 for size in shape)
    ):
        raise BadMessage(f"array shape {_brief(shape)} is not a list of at most {_MAX_DIMENSIONS} sizes")
    expected = math.prod(shape) * checked.itemsize
    if expected != len(data):
        raise BadMessage(f"an array of shape {shape} and dtype {checked.str} has {expected} bytes, not {len(data)}")
    if checked.kind == "b":
        # A bool of any byte but 0 and 1 is undefined for numpy: read as "not zero".
        array = np.frombuffer(data, dtype=np.uint8) != 0
    else:
        array = np.frombuffer(data, dtype=checked).astype(checked.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array.reshape(shape)


def array_of_list(value: list[Any]) -> np.ndarray | None:
    """The array that nested lists of numbers make; None when they are uneven or hold anything else.

    Looked through before numpy sees them: of one long text among many short ones it would make an array as wide as the
    longest, 1 GiB from 64 KiB.
    """
    level, shape = value, [len(value)]
    while level and set(map(type, level)) == {list}:
        lengths = set(map(len, level))
        if len(lengths) != 1 or len(shape) == _MAX_DIMENSIONS:
            return None
        shape += lengths
        level = list(chain.from_iterable(level))
    if not all(issubclass(kind, _NUMBERS) for kind in set(map(type, level))):
        return None
    array = np.asarray(level)
    # Whole numbers beyond 64 bits become objects.
    return array.reshape(shape) if array.dtype.kind in _SENDABLE_KINDS else None


def _dtype(text: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or not _DTYPE.match(text):
        raise BadMessage(f"array dtype {_brief(text)} is not allowed: use u1, i1 to i8, f2, f4, f8 or b1")
    return np.dtype(text)


def _decode_array(fields: dict[Any, Any]) -> np.ndarray:
    if fields.keys() != {_ARRAY, b"data", b"dtype", b"shape"}:
        raise BadMessage("an array has exactly the keys __ndarray__, data, dtype and shape, as bin")
    return build_array(fields[b"dtype"], fields[b"shape"], fields[b"data"])


def _decode_scalar(fields: dict[Any, Any]) -> np.generic:
    if fields.keys() != {_SCALAR, b"data", b"dtype"}:
        raise BadMessage("a numpy scalar has exactly the keys __npgeneric__, data and dtype, as bin")
    dtype, value = _dtype(fields[b"dtype"]), fields[b"data"]
    allowed = (bool,) if dtype.kind == "b" else (int,) if dtype.kind in "iu" else (int, float)
    if type(value) not in allowed:
        raise BadMessage(f"a scalar of dtype {dtype.str} cannot hold {_brief(value)}")
    try:
        with np.errstate(over="ignore"):
            return dtype.newbyteorder("=").type(value)
    except OverflowError as error:
        raise BadMessage(f"{value} does not fit dtype {dtype.str}") from error


def _refuse_extension(code: int, data: bytes) -> Any:
    raise BadMessage(f"msgpack extension type {code} is not part of the protocol")


def _check_depth(value: Any, limit: int) -> None:
    """Without recursion: msgpack nests deeper than Python calls do."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > limit + 1:
            raise BadMessage(f"a message nested deeper than {limit} levels")
        level = [
            child
            for container in level
            if isinstance(container, (dict, list))
            for child in (container.values() if isinstance(container, dict) else container)
        ]


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
