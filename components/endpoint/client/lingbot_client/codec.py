"""openpi's wire format: msgpack with numpy arrays as maps whose keys are bin.

    array  {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [..]}
    scalar {b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}

Only numbers are decoded into arrays: an object dtype from the other side could run code or crash the process.
"""

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from lingbot_client.errors import BadReply

_NUMBERS = "biuf"


def pack(value: Any) -> bytes:
    """Encodes dicts, lists, texts, numbers, None and numpy arrays of bool, int, uint and float.

    Raises:
        TypeError: for anything else.
    """
    packed: bytes = msgpack.packb(value, default=_encode, use_bin_type=True)
    return packed


def unpack(frame: bytes) -> Any:
    """Decodes one message; arrays are writable copies.

    Raises:
        BadReply: it is no message of the protocol.
    """
    try:
        return msgpack.unpackb(frame, raw=False, object_hook=_decode, strict_map_key=False)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise BadReply(f"what came is no message of the openpi protocol: {error or type(error).__name__}") from error


def _encode(value: Any) -> dict[bytes, Any]:
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in _NUMBERS:
            raise TypeError(f"cannot send an array of {value.dtype}: bool, integers and floats go over the wire")
        if isinstance(value, np.ndarray):
            shape = list(value.shape)
            return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": shape}
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot send a {type(value).__name__}")


def _decode(fields: Mapping[Any, Any]) -> Any:
    if b"__ndarray__" in fields:
        return np.frombuffer(fields[b"data"], _dtype(fields)).reshape(fields[b"shape"]).copy()
    if b"__npgeneric__" in fields:
        return _dtype(fields).type(fields[b"data"])
    return fields


def _dtype(fields: Mapping[Any, Any]) -> "np.dtype[Any]":
    dtype = np.dtype(fields[b"dtype"])
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"an array of dtype {dtype} is no part of the protocol")
    return dtype
