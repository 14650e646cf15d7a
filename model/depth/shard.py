"""The file of a shard: written part by part, appearing whole or not at all, and mapped into memory to be read.

A shard is an ordinary safetensors file. Rows are frames, V views each; tokens are stored once for each different view
of a frame, and `slot` says where:

    slot      int32 [rows, V]        place in `tokens`; ABSENT: no depth there; ELSEWHERE: in another shard, same digest
    digest    uint8 [rows, V, 32]    sha256 of what the teacher saw of the view; zeros where absent
    episode, frame  int64 [rows]
    tokens    [slots, N, K]          as the codec stores them
    scales    float16 [slots, N]     where the codec has scales
    count, mean, squares  float64    moments by view and place, of every row

Its metadata key `shard` holds what it was made with and its measured error. Tokens are appended, because how many
differ is not known before; the header, whose length is fixed in advance, is written last, then the file is synced and
renamed.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from model.errors import UserError

SCHEMA_VERSION = 2
READABLE = (1, 2)  # version 1 stored every view of every row, with a mask and one digest a row
ABSENT, ELSEWHERE = -1, -2
DIGEST_BYTES = 32
HEADER_ROOM = 512  # bytes for the measured figures, whose number of digits is not known in advance
DTYPES: dict[str, np.dtype] = {
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BF16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
Form = tuple[str, tuple[int, ...]]  # safetensors dtype and shape


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One opened shard: its metadata and its tensors, memory-mapped."""

    path: Path
    facts: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        return len(self.tensors["episode"])


def open_shard(path: Path) -> Shard:
    """Maps a shard. UserError when the file is missing, cut short or no safetensors file of ours."""
    if not path.is_file():
        raise UserError(f"token shard {path} is missing: run extract_depth_tokens again, or restore the file")
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        header = file.read(length) if length < size else b""
    try:
        entries = json.loads(header)
        facts = json.loads(entries.pop("__metadata__")["shard"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"token shard {path} is damaged: its header cannot be read; delete it and run again") from error
    start = 8 + length
    if size != start + max(entry["data_offsets"][1] for entry in entries.values()):
        raise UserError(f"token shard {path} is damaged: it holds {size} bytes; delete it and run again")
    data = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)  # a plain view: a memmap's slices cost 10x
    tensors = {}
    for name, entry in entries.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        tensors[name] = data[first:last].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return Shard(path=path, facts=facts, tensors=_upgrade(tensors) if facts["schema_version"] == 1 else tensors)


def _upgrade(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of version 1 as those of version 2. Its digests, one a row, cannot be told apart by view."""
    mask = tensors.pop("mask")
    slots = np.arange(mask.size, dtype=np.int32).reshape(mask.shape)
    upgraded = tensors | {"slot": np.where(mask, slots, np.int32(ABSENT))}
    for name in ("tokens", "scales"):
        if name in tensors:
            upgraded[name] = tensors[name].reshape(mask.size, *tensors[name].shape[2:])
    return upgraded


class ShardFile:
    """Writes a shard; use it in a `with` block and call `finish` at its end, or nothing is left.

    Args:
        partial: where to write before the file is whole.
        facts: of the metadata, without the figures that are measured meanwhile.
        fixed: name -> dtype and shape of the tensors whose size is known.
        growing: name -> dtype and shape of one item of the tensors that are appended to, in order.
        most: items at most.
    """

    def __init__(
        self, partial: Path, facts: Mapping[str, Any], fixed: Mapping[str, Form], growing: Mapping[str, Form], most: int
    ) -> None:
        # widest items first, so that each tensor starts at a multiple of its item size
        names = sorted(fixed, key=lambda name: (-DTYPES[fixed[name][0]].itemsize, name))
        self._fixed = {name: fixed[name] for name in names}
        self._growing = dict(growing)
        self._appended: list[list[np.ndarray]] = [[] for _ in list(growing)[1:]]
        self.items = 0
        header = self._header(facts, self._entries(most))
        self._header_length = -(-(len(header.encode()) + HEADER_ROOM) // 64) * 64 - 8
        self._partial = partial
        partial.parent.mkdir(parents=True, exist_ok=True)
        self._file = partial.open("wb")

    def put(self, name: str, values: np.ndarray, row: int = 0) -> None:
        """Writes rows of a fixed tensor from `row` on."""
        dtype, shape = self._fixed[name]
        start = self._entries(0)[name]["data_offsets"][0] + row * _bytes(dtype, shape[1:])
        self._file.seek(8 + self._header_length + start)
        self._file.write(np.ascontiguousarray(values, DTYPES[dtype]).view(np.uint8).data)

    def append(self, *items: np.ndarray) -> None:
        """Appends to the growing tensors, in their order; the first goes to the file, the small others wait."""
        first, *others = items
        name, (dtype, shape) = next(iter(self._growing.items()))
        assert first.shape[1:] == shape and len(others) == len(self._appended), (first.shape, shape)
        start = self._entries(0)[name]["data_offsets"][0] + self.items * _bytes(dtype, shape)
        self._file.seek(8 + self._header_length + start)
        self._file.write(np.ascontiguousarray(first).view(np.uint8).data)
        for waiting, other in zip(self._appended, others, strict=True):
            waiting.append(other)
        self.items += len(first)

    def finish(self, final: Path, facts: Mapping[str, Any]) -> None:
        """Writes the header, syncs, and moves the file to its place."""
        entries = self._entries(self.items)
        for (name, (dtype, shape)), parts in zip(list(self._growing.items())[1:], self._appended, strict=True):
            self._file.seek(8 + self._header_length + entries[name]["data_offsets"][0])
            whole = np.concatenate([np.zeros((0, *shape), DTYPES[dtype]), *parts])
            self._file.write(np.ascontiguousarray(whole, DTYPES[dtype]).view(np.uint8).data)
        header = self._header(facts, entries).encode()
        assert len(header) <= self._header_length, "the header outgrew its room"
        self._file.seek(0)
        self._file.write(struct.pack("<Q", self._header_length) + header.ljust(self._header_length))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        final.parent.mkdir(exist_ok=True)
        os.replace(self._partial, final)

    def __enter__(self) -> "ShardFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _entries(self, items: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        offset = 0
        growing = {name: (dtype, (items, *shape)) for name, (dtype, shape) in self._growing.items()}
        for name, (dtype, shape) in (self._fixed | growing).items():
            end = offset + _bytes(dtype, shape)
            entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        return entries

    @staticmethod
    def _header(facts: Mapping[str, Any], entries: Mapping[str, Any]) -> str:
        return json.dumps({"__metadata__": {"shard": json.dumps(facts, sort_keys=True)}, **entries})


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return DTYPES[dtype].itemsize * int(np.prod(shape, dtype=np.int64))
