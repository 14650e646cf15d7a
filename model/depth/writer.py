"""Writing the shards of a token store. The bytes of a shard depend on its rows and their order only.

Rows go to a file beside the shards as they come, so memory does not grow with the shard. Views that the shard already
has are not stored again.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from model.depth.codec import Bf16, Codec, CodecError, PcaInt8, find_codec
from model.depth.moments import Moments
from model.depth.pca import Basis
from model.depth.shard import ABSENT, DIGEST_BYTES, SCHEMA_VERSION, Form, Shard, ShardFile, open_shard
from model.errors import UserError

SHARDS = "shards"
SCRATCH = ".scratch"


@dataclass(frozen=True, kw_only=True)
class StoreLayout:
    """What every shard of a store has in common; with a frame's digest, the key of its tokens.

    Attributes:
        preprocessing_digest: of everything that changes a frame's tokens but the weights: sizes, precision, and where
            the depth came from.
        basis: of the codec pca128-int8; None for the others.
    """

    cameras: tuple[str, ...]
    tokens_per_view: int
    channels: int
    codec: str
    weights_digest: str
    preprocessing_digest: str
    basis: Basis | None = None

    def __post_init__(self) -> None:
        assert (self.codec == PcaInt8.name) == (self.basis is not None), "one codec has a basis, the others have none"
        self.open_codec()
        assert self.cameras and self.tokens_per_view > 0 and self.channels > 0, self

    def open_codec(self) -> Codec:
        return find_codec(self.codec, self.basis)

    def facts(self) -> dict[str, Any]:
        """As a shard's metadata and store.json have it."""
        return {
            "cameras": list(self.cameras),
            "tokens_per_view": self.tokens_per_view,
            "channels": self.channels,
            "codec": self.codec,
            "basis_digest": self.basis.digest if self.basis else "",
            "weights_digest": self.weights_digest,
            "preprocessing_digest": self.preprocessing_digest,
        }

    def forms(self, rows: int) -> tuple[dict[str, Form], dict[str, Form]]:
        """Tensors of a shard whose size is known, and one item of those that are appended to."""
        views, tokens, channels = len(self.cameras), self.tokens_per_view, self.channels
        codec = self.open_codec()
        fixed: dict[str, Form] = {
            "episode": ("I64", (rows,)),
            "frame": ("I64", (rows,)),
            "count": ("F64", (views,)),
            "mean": ("F64", (views, tokens, channels)),
            "squares": ("F64", (views, tokens, channels)),
            "slot": ("I32", (rows, views)),
            "digest": ("U8", (rows, views, DIGEST_BYTES)),
        }
        growing: dict[str, Form] = {"tokens": (codec.dtype, (tokens, codec.width(channels)))}
        if codec.scaled:
            growing["scales"] = ("F16", (tokens,))
        return fixed, growing


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
    _slots: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layout = self.layout
        self._codec = layout.open_codec()
        self._moments = Moments.zeros(len(layout.cameras), layout.tokens_per_view, layout.channels)
        fixed, growing = layout.forms(self.rows)
        # with the process in its name: a worker that outlived its killed parent writes into another file
        partial = self.store / SCRATCH / f"{shard_name(self.first, self.last)}.{os.getpid()}.partial"
        self._file = ShardFile(
            partial, self._facts({}), fixed, growing, most=self.rows * len(layout.cameras)
        )  # fmt: skip

    def add(
        self, episode: np.ndarray, frame: np.ndarray, tokens: np.ndarray, mask: np.ndarray, digest: np.ndarray
    ) -> None:
        """Adds B rows: integers [B], float32 [B, V, N, C], bool [B, V], uint8 [B, V, 32]; masked tokens are left out.

        Raises:
            UserError: a token is not finite.
        """
        present = tokens[mask]
        if not np.isfinite(present).all():
            item, view = np.argwhere(mask)[np.argwhere(~np.isfinite(present))[0][0]].tolist()
            raise UserError(
                f"the teacher's tokens of episode {episode[item]} frame {frame[item]}, camera "
                f"'{self.layout.cameras[view]}' are not finite: check the checkpoint and that frame's depth"
            )
        assert self._added + len(tokens) <= self.rows, "more rows than announced"
        values, scales = self._codec.encode(present)
        self._measure(values, scales, present)
        slots: list[int] = []
        fresh: list[int] = []
        for number, key in enumerate(map(bytes, digest[mask])):
            slot = self._slots.setdefault(key, len(self._slots))
            if slot == self._file.items + len(fresh):
                fresh.append(number)
            slots.append(slot)
        stored = (values[fresh],) if scales is None else (values[fresh], scales[fresh])
        self._file.append(*stored)
        slot_BV = np.full(mask.shape, ABSENT, np.int32)
        slot_BV[mask] = slots
        digest_BVD = np.where(mask[:, :, None], digest, np.uint8(0))
        for name, column in (("episode", episode), ("frame", frame), ("slot", slot_BV), ("digest", digest_BVD)):
            self._file.put(name, column, row=self._added)
        self._moments.add(tokens, mask)
        self._added += len(tokens)

    def finish(self) -> dict[str, Any]:
        """Completes the shard and gives its facts."""
        assert self._added == self.rows, f"{self._added} rows added, {self.rows} announced"
        for name in ("count", "mean", "squares"):
            self._file.put(name, getattr(self._moments, name))
        facts = self._facts(self._error.summary() | {"sums": asdict(self._error)})
        self._file.finish(self.store / SHARDS / shard_name(self.first, self.last), facts)
        return facts

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def _measure(self, values: np.ndarray, scales: np.ndarray | None, tokens: np.ndarray) -> None:
        stored, reference = np.empty_like(tokens), np.empty_like(tokens)
        self._codec.decode(values, scales, out=stored)
        bf16 = Bf16()
        bf16.decode(*bf16.encode(tokens), out=reference)
        self._error.add(stored, reference)

    def _facts(self, error: Mapping[str, Any]) -> dict[str, Any]:
        return shard_facts(self.layout, self.first, self.last, self.rows) | {"error_against_bf16": dict(error)}


def shard_name(first: int, last: int) -> str:
    """File of the shard that covers the episodes `first` to `last`."""
    return f"{first:06d}-{last:06d}.safetensors"


def shard_facts(layout: StoreLayout, first: int, last: int, rows: int) -> dict[str, Any]:
    """A shard's metadata but for its error, which is measured."""
    span = {"schema_version": SCHEMA_VERSION, "first": first, "last": last, "rows": rows}
    return span | layout.facts()


def finished_shard(store: Path, layout: StoreLayout, first: int, last: int, rows: int) -> Shard | None:
    """The complete shard of these episodes that an earlier attempt left; None when missing or of another kind."""
    path = store / SHARDS / shard_name(first, last)
    if not path.is_file():
        return None
    shard = open_shard(path)
    wanted = shard_facts(layout, first, last, rows)
    return shard if all(shard.facts.get(key) == value for key, value in wanted.items()) else None
