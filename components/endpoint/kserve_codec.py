"""Tensors of the Open Inference Protocol v2 (KServe, Triton), as JSON and in its binary extension.

A body is JSON, or, with the header `Inference-Header-Content-Length: N`, N bytes of JSON followed by the bytes of each
tensor whose `parameters` have `binary_data_size`, in their order, row-major and little endian; a BYTES element is
preceded by its length in four bytes. (PLATFORM_FACTS 3.4.)
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.endpoint.codec import array_of_list, build_array
from components.endpoint.errors import BadMessage, TooLarge
from components.endpoint.json_codec import MAX_JSON_BYTES
from model.errors import unknown_name

BINARY_HEADER = "Inference-Header-Content-Length"
# Without the unsigned ones that no observation has: images are UINT8.
_DTYPES = {
    "BOOL": "|b1", "UINT8": "|u1", "INT8": "|i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_BYTES = "BYTES"
_MAX_TENSORS = 64
_MAX_TEXTS = 64
_SCALARS = (str, int, float, bool)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One named tensor; of texts, `values` is a list in row-major order."""

    name: str
    shape: tuple[int, ...]
    values: np.ndarray | list[str]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One inference request. `outputs` maps each wanted output to whether it is wanted as binary; empty: all."""

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: Mapping[str, bool]
    parameters: Mapping[str, Any]

    @property
    def binary_default(self) -> bool:
        return self.parameters.get("binary_data_output") is True


def read_call(body: bytes, header_length: str | None) -> Call:
    """Decodes a request of an untrusted sender.

    Raises:
        TooLarge, BadMessage
    """
    text, rest = _split(body, header_length)
    if len(text) > MAX_JSON_BYTES:
        raise TooLarge(f"{len(text)} bytes of JSON are over the limit of {MAX_JSON_BYTES}: send tensors as binary data")
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the request is not JSON: {error}") from error
    request = _map(request, "the request")
    given = request.get("inputs")
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_TENSORS:
        raise BadMessage(f"inputs must be a list of 1 to {_MAX_TENSORS} tensors")
    inputs, offset = [], 0
    for entry in given:
        tensor, used = _read_tensor(_map(entry, "an input"), rest, offset)
        inputs.append(tensor)
        offset += used
    if offset != len(rest):
        raise BadMessage(f"{len(rest)} bytes follow the JSON, but the inputs' binary_data_size add up to {offset}")
    names = [tensor.name for tensor in inputs]
    if len(set(names)) != len(names):
        raise BadMessage("two inputs have the same name")
    identity = request.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadMessage("id must be a text")
    parameters = _scalars(request.get("parameters"), "the request's parameters")
    return Call(id=identity, inputs=tuple(inputs), outputs=_wanted(request, parameters), parameters=parameters)


def write_answer(head: Mapping[str, Any], outputs: Sequence[tuple[Tensor, bool]]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON when binary data follows.

    Args:
        head: model_name, model_version, id, parameters.
        outputs: tensors of numbers, and whether each goes as binary.
    """
    entries, chunks = [], []
    for tensor, binary in outputs:
        assert isinstance(tensor.values, np.ndarray), "no output is a text"
        entry: dict[str, Any] = {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": datatype_of(tensor.values.dtype),
        }
        if binary:
            data = np.ascontiguousarray(tensor.values).tobytes()
            entry["parameters"] = {"binary_data_size": len(data)}
            chunks.append(data)
        else:
            entry["data"] = tensor.values.ravel().tolist()
        entries.append(entry)
    text = json.dumps({**head, "outputs": entries}, allow_nan=False, separators=(",", ":")).encode()
    return text + b"".join(chunks), len(text) if chunks else None


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a dtype."""
    return next(name for name, code in _DTYPES.items() if np.dtype(code) == dtype)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not header_length.isascii() or not header_length.isdigit() or not 0 < int(header_length[:12]) <= len(body):
        raise BadMessage(
            f"{BINARY_HEADER} is {header_length[:40]!r}, the body has {len(body)} bytes: send the length of its JSON"
        )
    length = int(header_length[:12])
    return body[:length], body[length:]


def _read_tensor(entry: Mapping[str, Any], rest: bytes, offset: int) -> tuple[Tensor, int]:
    """One input, and how many of the bytes after the JSON are its."""
    name, shape, datatype = entry.get("name"), entry.get("shape"), entry.get("datatype")
    if not isinstance(name, str) or not 1 <= len(name) <= 128:
        raise BadMessage("an input has a name of 1 to 128 characters")
    if (
        not isinstance(shape, list)
        or len(shape) > 6
        or not all(type(size) is int and 0 <= size < 2**31 for size in shape)
    ):
        raise BadMessage(f"the shape of {name} must be a list of at most 6 sizes")
    if not isinstance(datatype, str) or (datatype != _BYTES and datatype not in _DTYPES):
        raise BadMessage(str(unknown_name(f"datatype of {name}", str(datatype), [*_DTYPES, _BYTES])))
    parameters = _scalars(entry.get("parameters"), f"the parameters of {name}")
    size = parameters.get("binary_data_size")
    if size is None:
        values = _from_json(name, entry.get("data"), shape, datatype)
        return Tensor(name=name, shape=tuple(shape), values=values), 0
    if type(size) is not int or size < 0 or offset + size > len(rest):
        raise BadMessage(f"binary_data_size of {name} is {size}, but {len(rest) - offset} bytes are left")
    if "data" in entry:
        raise BadMessage(f"{name} has data and binary_data_size: send one of them")
    data = rest[offset : offset + size]
    if datatype == _BYTES:
        return Tensor(name=name, shape=tuple(shape), values=_texts(name, data, math.prod(shape))), size
    return Tensor(name=name, shape=tuple(shape), values=build_array(_DTYPES[datatype], shape, data)), size


def _from_json(name: str, data: Any, shape: list[int], datatype: str) -> np.ndarray | list[str]:
    if not isinstance(data, list):
        raise BadMessage(f"{name} has no data: send a list, or binary data after the JSON")
    count = math.prod(shape)
    if datatype == _BYTES:
        texts = _flat_texts(name, data)
        if len(texts) != count:
            raise BadMessage(f"{name} has shape {shape} and {len(texts)} values")
        return texts
    dtype = np.dtype(_DTYPES[datatype])
    given = array_of_list(data)
    if given is None:
        raise BadMessage(f"the data of {name} is a list of uneven length, or does not fit {datatype}")
    kinds = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if given.size and given.dtype.kind not in kinds:
        raise BadMessage(f"the data of {name} does not fit {datatype}")
    if given.size != count:
        raise BadMessage(f"{name} has shape {shape} and {given.size} values")
    if dtype.kind in "iu" and given.size:
        bounds = np.iinfo(dtype)
        if given.min() < bounds.min or given.max() > bounds.max:
            raise BadMessage(f"the data of {name} does not fit {datatype}: {bounds.min} to {bounds.max}")
    with np.errstate(over="ignore"):
        return given.astype(dtype).reshape(shape)


def _flat_texts(name: str, data: list[Any]) -> list[str]:
    """A list of texts, nested or not."""
    texts: list[str] = []
    level = list(data)
    while level:
        if len(level) > _MAX_TEXTS:
            raise BadMessage(f"{name} has more than {_MAX_TEXTS} texts")
        item = level.pop(0)
        if isinstance(item, list):
            level = item + level
        elif isinstance(item, str):
            texts.append(item)
        else:
            raise BadMessage(f"{name} is of BYTES: send texts")
    return texts


def _texts(name: str, data: bytes, count: int) -> list[str]:
    """BYTES elements: each a little-endian length of four bytes, then UTF-8."""
    texts: list[str] = []
    offset = 0
    while offset < len(data):
        if len(texts) >= _MAX_TEXTS or offset + 4 > len(data):
            raise BadMessage(f"the binary data of {name} is no list of texts")
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if offset + length > len(data):
            raise BadMessage(f"the binary data of {name} ends inside a text")
        try:
            texts.append(data[offset : offset + length].decode())
        except UnicodeDecodeError as error:
            raise BadMessage(f"a text of {name} is not UTF-8") from error
        offset += length
    if len(texts) != count:
        raise BadMessage(f"{name} holds {len(texts)} texts, its shape says {count}")
    return texts


def _wanted(request: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, bool]:
    outputs = request.get("outputs")
    if outputs is None:
        return {}
    if not isinstance(outputs, list) or len(outputs) > _MAX_TENSORS:
        raise BadMessage(f"outputs must be a list of at most {_MAX_TENSORS} tensors")
    wanted: dict[str, bool] = {}
    for entry in outputs:
        entry = _map(entry, "an output")
        name = entry.get("name")
        if not isinstance(name, str) or name in wanted:
            raise BadMessage("each output has a name of its own")
        binary = _scalars(entry.get("parameters"), f"the parameters of {name}").get("binary_data")
        wanted[name] = parameters.get("binary_data_output") is True if binary is None else binary is True
    return wanted


def _map(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadMessage(f"{what} must be a JSON object")
    return value


def _scalars(value: Any, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    found = _map(value, what)
    if not all(isinstance(item, _SCALARS) for item in found.values()):
        raise BadMessage(f"{what} must be texts, numbers or booleans")
    return found
