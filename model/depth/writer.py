"""Writing a token store, shard by shard; every shard appears whole or not at all.

Rows go to a file beside the shards as they come, so memory does not grow with the shard. Its header, whose length is
fixed in advance, is written last, then the file is synced and renamed. The bytes depend on the rows and their order
only.
"""

import json
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors.numpy import save

from model.depth.codec import Bf16, CodecError, find_codec
from model.depth.store import DTYPES, SCHEMA_VERSION, SHARDS, STATISTICS, STORE, Shard, open_shard
from model.errors import UserError

SCRATCH = ".scratch"
HEADER_ROOM = 512  # bytes for the measured figures, whose number of digits is not known in advance
DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class StoreLayout:
    """What every shard of a store has in common."""

    cameras: tuple[str, ...]
    tokens_per_view: int
    channels: int
    codec: str
    weights_digest: str
    preprocessing_digest: str

    def __post_init__(self) -> None:
        find_codec(self.codec)
        assert self.cameras and self.tokens_per_view > 0 and self.channels > 0, self


@dataclass(kw_only=True)
class Moments:
    """Count [V], mean and summed squared deviation [V, N, C] of tokens by view and place; two can be merged."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def zeros(cls, layout: StoreLayout) -> "Moments":
        shape = (len(layout.cameras), layout.tokens_per_view, layout.channels)
        return cls(count=np.zeros(shape[0]), mean=np.zeros(shape), squares=np.zeros(shape))

    def add(self, tokens: np.ndarray, mask: np.ndarray) -> None:
        """Adds float32 tokens [B, V, N, C] where mask [B, V] is True."""
        for view in range(tokens.shape[1]):
            rows = tokens[mask[:, view], view].astype(np.float64)
            if len(rows):
                mean = rows.mean(axis=0)
                self._merge(view, len(rows), mean, np.square(rows - mean).sum(axis=0))

    def merge(self, other: "Moments") -> None:
        for view in np.flatnonzero(other.count).tolist():
            self._merge(view, other.count[view], other.mean[view], other.squares[view])

    def _merge(self, view: int, count: float, mean: np.ndarray, squares: np.ndarray) -> None:
        total = self.count[view] + count
        shift = mean - self.mean[view]
        self.squares[view] += squares + np.square(shift) * (self.count[view] * count / total)
        self.mean[view] += shift * (count / total)
        self.count[view] = total

    def by_place(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation float32 [V, N, C]."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1)[:, None, None])
        return self.mean.astype(np.float32), deviation.astype(np.float32)

    def by_channel(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation float64 [C] over all views and places."""
        weight = self.count[:, None, None]
        total = max(float(self.count.sum()) * self.mean.shape[1], 1.0)
        mean = (weight * self.mean).sum(axis=(0, 1)) / total
        squares = (self.squares + weight * np.square(self.mean - mean)).sum(axis=(0, 1))
        return mean, np.sqrt(squares / total)


@dataclass(kw_only=True)
class ShardWriter:
    """Writes the rows of one shard; use it in a `with` block and call `finish` at its end.

    Args:
        store: folder of the store.
        first, last: episodes that the shard covers, both included.
        rows: how many rows will be added.
    """

    store: Path
    layout: StoreLayout
    first: int
    last: int
    rows: int
    _added: int = 0
    _error: CodecError = field(default_factory=CodecError)

    def __post_init__(self) -> None:
        views, tokens, channels = len(self.layout.cameras), self.layout.tokens_per_view, self.layout.channels
        self._codec = find_codec(self.layout.codec)
        self._moments = Moments.zeros(self.layout)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "tokens": (self._codec.dtype, (self.rows, views, tokens, channels)),
            "episode": ("I64", (self.rows,)),
            "frame": ("I64", (self.rows,)),
            "count": ("F64", (views,)),
            "mean": ("F64", (views, tokens, channels)),
            "squares": ("F64", (views, tokens, channels)),
            "digest": ("U8", (self.rows, DIGEST_BYTES)),
            "mask": ("BOOL", (self.rows, views)),
        }
        if self.layout.codec == "int8":
            shapes["scales"] = ("F16", (self.rows, views, tokens))
        # widest items first, so that each tensor starts at a multiple of its item size
        names = sorted(shapes, key=lambda name: (-DTYPES[shapes[name][0]].itemsize, name))
        self._entries: dict[str, Any] = {}
        offset = 0
        for name in names:
            dtype, shape = shapes[name]
            end = offset + DTYPES[dtype].itemsize * int(np.prod(shape))
            self._entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        header = self._header(_facts(self.layout, self.first, self.last, self.rows, {}))
        self._header_length = -(-(len(header.encode()) + HEADER_ROOM) // 64) * 64 - 8
        self._partial = self.store / SCRATCH / (shard_name(self.first, self.last) + ".partial")
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("wb")

    def add(
        self, episode: np.ndarray, frame: np.ndarray, tokens: np.ndarray, mask: np.ndarray, digest: np.ndarray
    ) -> None:
        """Adds B rows: integers [B], float32 [B, V, N, C], bool [B, V], uint8 [B, 32]. Masked tokens become zeros.

        Raises:
            UserError: a token is not finite.
        """
        tokens = np.where(mask[:, :, None, None], tokens, np.float32(0))
        if not np.isfinite(tokens).all():
            item = int(np.argwhere(~np.isfinite(tokens))[0][0])
            raise UserError(f"the teacher's tokens of episode {episode[item]} frame {frame[item]} are not finite")
        assert self._added + len(tokens) <= self.rows, "more rows than announced"
        values, scales = self._codec.encode(tokens)
        self._measure(values, scales, tokens, mask)
        self._write("tokens", values)
        if scales is not None:
            self._write("scales", scales)
        for name, column in (("episode", episode), ("frame", frame), ("mask", mask), ("digest", digest)):
            dtype = DTYPES[self._entries[name]["dtype"]]
            self._write(name, np.asarray(column, dtype))
        self._moments.add(tokens, mask)
        self._added += len(tokens)

    def finish(self) -> dict[str, Any]:
        """Completes the shard and gives its facts."""
        assert self._added == self.rows, f"{self._added} rows added, {self.rows} announced"
        for name in ("count", "mean", "squares"):
            self._write(name, getattr(self._moments, name), row=0)
        sums = asdict(self._error)
        facts = _facts(self.layout, self.first, self.last, self.rows, self._error.summary() | {"sums": sums})
        header = self._header(facts).encode()
        assert len(header) <= self._header_length, "the header outgrew its room"
        self._file.seek(0)
        self._file.write(struct.pack("<Q", self._header_length) + header.ljust(self._header_length))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        final = self.store / SHARDS / shard_name(self.first, self.last)
        final.parent.mkdir(exist_ok=True)
        os.replace(self._partial, final)
        return facts

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _measure(self, values: np.ndarray, scales: np.ndarray | None, tokens: np.ndarray, mask: np.ndarray) -> None:
        stored, reference = np.empty_like(tokens), np.empty_like(tokens)
        self._codec.decode(values, scales, out=stored)
        bf16 = Bf16()
        bf16.decode(*bf16.encode(tokens), out=reference)
        self._error.add(stored[mask], reference[mask])

    def _write(self, name: str, values: np.ndarray, row: int | None = None) -> None:
        """Writes rows from `row` (the next free one when None) on."""
        entry = self._entries[name]
        bytes_a_row = DTYPES[entry["dtype"]].itemsize * int(np.prod(entry["shape"][1:]))
        start = self._added if row is None else row
        self._file.seek(8 + self._header_length + entry["data_offsets"][0] + start * bytes_a_row)
        self._file.write(np.ascontiguousarray(values).view(np.uint8).data)

    def _header(self, facts: Mapping[str, Any]) -> str:
        return json.dumps({"__metadata__": {"shard": json.dumps(facts, sort_keys=True)}, **self._entries})


def shard_name(first: int, last: int) -> str:
    """File of the shard that covers the episodes `first` to `last`."""
    return f"{first:06d}-{last:06d}.safetensors"


def _facts(layout: StoreLayout, first: int, last: int, rows: int, error: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "first": first,
        "last": last,
        "rows": rows,
        "cameras": list(layout.cameras),
        "tokens_per_view": layout.tokens_per_view,
        "channels": layout.channels,
        "codec": layout.codec,
        "weights_digest": layout.weights_digest,
        "preprocessing_digest": layout.preprocessing_digest,
        "error_against_bf16": dict(error),
    }


def finished_shard(store: Path, layout: StoreLayout, first: int, last: int, rows: int) -> Shard | None:
    """The complete shard of these episodes that an earlier attempt left; None when missing or of another kind."""
    path = store / SHARDS / shard_name(first, last)
    if not path.is_file():
        return None
    shard = open_shard(path)
    wanted = _facts(layout, first, last, rows, {})
    del wanted["error_against_bf16"]
    return shard if all(shard.facts[key] == value for key, value in wanted.items()) else None


def write_unavailable(store: Path, reason: str) -> None:
    """A store that says why there are no tokens."""
    _write_json(store / STORE, {"schema_version": SCHEMA_VERSION, "available": False, "reason": reason})


def finish_store(
    store: Path, layout: StoreLayout, shards: Sequence[tuple[int, int, int]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes store.json and the statistics over complete shards, removes scratch and shards of other attempts.

    Args:
        shards: (first episode, last episode, rows) of each shard, in order.
        facts: what else store.json holds (teacher, preprocessing, rate).
    """
    moments, error, entries = Moments.zeros(layout), CodecError(), []
    frames = 0
    for first, last, rows in shards:
        shard = finished_shard(store, layout, first, last, rows)
        assert shard is not None, f"shard {shard_name(first, last)} is not complete"
        tensors = shard.tensors
        moments.merge(Moments(count=tensors["count"], mean=tensors["mean"], squares=tensors["squares"]))
        figures = dict(shard.facts["error_against_bf16"])
        error.merge(CodecError(**figures.pop("sums")))
        frames += rows
        entry = {"file": shard.path.name, "first": first, "last": last, "rows": rows}
        entries.append(entry | {"error_against_bf16": figures})
    mean, deviation = moments.by_place()
    (store / STATISTICS).write_bytes(save({"mean": mean, "std": deviation}))
    channel_mean, channel_std = moments.by_channel()
    content = {
        "schema_version": SCHEMA_VERSION,
        "available": True,
        **facts,
        "cameras": list(layout.cameras),
        "tokens_per_view": layout.tokens_per_view,
        "channels": layout.channels,
        "codec": layout.codec,
        "preprocessing_digest": layout.preprocessing_digest,
        "frames": frames,
        "views_with_depth": {camera: int(count) for camera, count in zip(layout.cameras, moments.count, strict=True)},
        "views_without_depth": frames * len(layout.cameras) - int(moments.count.sum()),
        "error_against_bf16": error.summary(),
        "channel_statistics": {"mean": channel_mean.tolist(), "std": channel_std.tolist()},
        "shards": entries,
    }
    named = {entry["file"] for entry in entries}
    for path in sorted((store / SHARDS).iterdir()):
        if path.name not in named:
            path.unlink()
    shutil.rmtree(store / SCRATCH, ignore_errors=True)
    _write_json(store / STORE, content)
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
