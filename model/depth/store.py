"""The token store: teacher tokens of a dataset's frames, in memory-mapped shards.

    store.json               what the tokens are: teacher, preprocessing, cameras, codec, statistics, shards
    statistics.safetensors   mean and deviation by view, place and channel
    shards/FIRST-LAST.safetensors   the rows of the episodes FIRST to LAST

A row is one frame: V views of N tokens of C channels. A shard is an ordinary safetensors file: tokens [rows, V, N, C]
(int8 or bf16), scales float16 [rows, V, N] (int8), mask [rows, V], episode and frame [rows], digest uint8 [rows, 32]
(sha256 of the frame's colour and depth), and its sums for the statistics. Its metadata key `shard` holds its
measured error.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from model.depth.codec import find_codec
from model.errors import UserError

SCHEMA_VERSION = 1
STORE = "store.json"
STATISTICS = "statistics.safetensors"
SHARDS = "shards"
DTYPES: dict[str, np.dtype] = {
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BF16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One opened shard: its metadata and its tensors, memory-mapped."""

    path: Path
    facts: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]


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
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"token shard {path} is damaged: its header cannot be read; delete it and run again") from error
    start = 8 + length
    if size != start + max(entry["data_offsets"][1] for entry in entries.values()):
        raise UserError(f"token shard {path} is damaged: it holds {size} bytes; delete it and run again")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    tensors = {}
    for name, entry in entries.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        tensors[name] = data[first:last].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return Shard(path=path, facts=facts, tensors=tensors)


class TokenStore:
    """Tokens of random frames. Open it with `TokenStore.open(folder)`; safe to share between threads.

    Attributes:
        facts: the content of store.json.
        available: False when the dataset has no depth; `reason` says so, and nothing can be read.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.facts = facts
        self.available: bool = facts["available"]
        self.reason: str = facts.get("reason", "")
        if not self.available:
            return
        self.cameras: tuple[str, ...] = tuple(facts["cameras"])
        self.tokens_per_view: int = facts["tokens_per_view"]
        self.channels: int = facts["channels"]
        self.rate: float = facts["rate"]
        self.weights_digest: str = facts["teacher"]["weights_digest"]
        self.preprocessing_digest: str = facts["preprocessing_digest"]
        self._codec = find_codec(facts["codec"])
        self._shards = [open_shard(path / SHARDS / entry["file"]) for entry in facts["shards"]]
        self._check_shards()

    @classmethod
    def open(cls, path: str | Path, *, weights_digest: str | None = None) -> "TokenStore":
        """Opens the folder of a store.

        Args:
            weights_digest: the teacher that the tokens must come from; None accepts any.

        Raises:
            UserError: no store, a newer schema, a damaged shard, or tokens of another teacher.
        """
        path = Path(path)
        if not (path / STORE).is_file():
            raise UserError(f"{path} is not a token store: it has no {STORE}; extract_depth_tokens writes one")
        facts = json.loads((path / STORE).read_text())
        version = facts.get("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(f"{path / STORE} has the schema_version {version}: this reader knows {SCHEMA_VERSION}")
        store = cls(path, facts)
        if weights_digest is not None and store.available and store.weights_digest != weights_digest:
            raise UserError(
                f"{path} holds tokens of the weights {store.weights_digest[:12]}, {weights_digest[:12]} is asked for: "
                "extract the tokens again with that teacher"
            )
        return store

    def __len__(self) -> int:
        """Frames that were extracted."""
        return len(self._keys)

    def read(self, episode: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of B frames.

        Args:
            episode, frame: integers [B].

        Returns:
            Raw tokens float32 [B, V, N, C], and mask bool [B, V]: False, with zeros in the tokens, for a frame that was
            not extracted and for a view without depth.
        """
        assert self.available, self.reason
        keys = _key(np.asarray(episode, np.int64), np.asarray(frame, np.int64))
        place = np.minimum(np.searchsorted(self._keys, keys), max(len(self._keys) - 1, 0))
        found = self._keys[place] == keys if len(self._keys) else np.zeros(keys.shape, bool)
        views = len(self.cameras)
        tokens = np.zeros((len(keys), views, self.tokens_per_view, self.channels), np.float32)
        mask = np.zeros((len(keys), views), bool)
        for item in np.flatnonzero(found):
            tensors, row = self._shards[self._shard_of[place[item]]].tensors, self._row_of[place[item]]
            scales = tensors["scales"][row] if "scales" in tensors else None
            self._codec.decode(tensors["tokens"][row], scales, out=tokens[item])
            mask[item] = tensors["mask"][row]
        tokens[~mask] = 0
        return tokens, mask

    def has(self, episode: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Bool [B]: the frame was extracted."""
        return np.isin(_key(np.asarray(episode, np.int64), np.asarray(frame, np.int64)), self._keys)

    @property
    def channel_mean(self) -> np.ndarray:
        """float32 [C], over every stored token."""
        return np.asarray(self.facts["channel_statistics"]["mean"], np.float32)

    @property
    def channel_std(self) -> np.ndarray:
        """float32 [C], over every stored token."""
        return np.asarray(self.facts["channel_statistics"]["std"], np.float32)

    @cached_property
    def place_mean(self) -> np.ndarray:
        """float32 [V, N, C]: the mean picture of each view. What is left without it is what moves."""
        from safetensors.numpy import load_file

        return load_file(self.path / STATISTICS)["mean"]

    @cached_property
    def place_std(self) -> np.ndarray:
        """float32 [V, N, C]: deviation at each place of each view."""
        from safetensors.numpy import load_file

        return load_file(self.path / STATISTICS)["std"]

    def _check_shards(self) -> None:
        """Builds the index. UserError when a shard was made with another teacher or preprocessing than the store."""
        for shard in self._shards:
            for key in ("weights_digest", "preprocessing_digest"):
                wanted = getattr(self, key)
                if shard.facts[key] != wanted:
                    raise UserError(
                        f"{shard.path} was made with the {key} {shard.facts[key][:12]}, "
                        f"store.json names {wanted[:12]}: delete the store and extract again"
                    )
        counts = [len(shard.tensors["episode"]) for shard in self._shards]
        columns = [_key(shard.tensors["episode"], shard.tensors["frame"]) for shard in self._shards]
        keys = np.concatenate([np.zeros(0, np.int64), *columns])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        assert len(np.unique(keys)) == len(keys), "a frame is in the store twice"
        self._shard_of = np.repeat(np.arange(len(counts)), counts)[order]
        self._row_of = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])[order]


def _key(episode: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return (episode << 32) | frame
