"""The same messages as JSON, for curl and for clients without msgpack.

An array is a nested list of numbers, or `{"dtype": "uint8", "shape": [112, 112, 3], "base64": "..."}` (the bytes in C
order, little endian), which is four times smaller for an image. Replies hold nested lists.
"""

import base64
import binascii
import json
from typing import Any

import numpy as np

from components.endpoint.codec import build_array
from components.endpoint.errors import BadMessage, TooLarge

# Three 224 px views as nested lists are 2.4 MB. Nested lists cost the server up to 25 times their text in memory.
MAX_JSON_BYTES = 8 * 1024 * 1024
_DTYPES = {
    "uint8": "|u1", "int8": "|i1", "int16": "<i2", "int32": "<i4", "int64": "<i8",
    "float16": "<f2", "float32": "<f4", "float64": "<f8", "bool": "|b1",
}  # fmt: skip


def load(body: bytes) -> Any:
    """Decodes one JSON message; `base64` objects become arrays, lists stay lists.

    Raises:
        TooLarge, BadMessage
    """
    if len(body) > MAX_JSON_BYTES:
        raise TooLarge(
            f"a JSON body of {len(body)} bytes is over the limit of {MAX_JSON_BYTES}: "
            f"send images as base64, or the message as application/msgpack"
        )
    try:
        return json.loads(body, object_hook=_array_or_map)
    except BadMessage:
        raise
    except RecursionError as error:
        raise BadMessage("the JSON body is nested too deeply") from error
    except ValueError as error:
        raise BadMessage(f"the body is not JSON: {error}") from error


def dump(message: dict[str, Any]) -> bytes:
    """Encodes a reply; arrays and numpy scalars become lists and numbers (float32 values survive exactly)."""
    return json.dumps(message, default=_plain, allow_nan=False, separators=(",", ":")).encode()


def _array_or_map(fields: dict[str, Any]) -> Any:
    if "base64" not in fields:
        return fields
    if fields.keys() != {"dtype", "shape", "base64"} or not isinstance(fields["base64"], str):
        raise BadMessage("a base64 array has exactly the keys dtype, shape and base64")
    try:
        data = base64.b64decode(fields["base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMessage(f"the base64 of an array cannot be decoded: {error}") from error
    dtype = fields["dtype"]
    return build_array(_DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype, fields["shape"], data)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"cannot send a {type(value).__name__} as JSON")
