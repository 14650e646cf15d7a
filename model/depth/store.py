"""The token store: teacher tokens of a dataset's frames, in memory-mapped shards.

    store.json               what the tokens are: teacher, preprocessing, cameras, codec, statistics, shards
    statistics.safetensors   mean and deviation by view, place and channel
    basis.safetensors        of the codec pca128-int8
    shards/FIRST-LAST.safetensors   the rows of the episodes FIRST to LAST (model/depth/shard.py)

A row is one frame: V views of N tokens of C channels. The key of a view's tokens is the digest of what the teacher saw
of it, the digest of the weights, and the digest of the preprocessing, which covers the source of the depth.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from model.depth.codec import Codec, PcaInt8, find_codec
from model.depth.finish import BASIS, STATISTICS, STORE
from model.depth.pca import Basis
from model.depth.shard import ELSEWHERE, READABLE, Shard, open_shard
from model.depth.writer import SHARDS
from model.errors import UserError


class TokenStore:
    """Tokens of random frames. Open it with `TokenStore.open(folder)`; safe to share between threads.

    Attributes:
        facts: the content of store.json.
        available: False when the dataset has no depth; `reason` says so, and nothing can be read.
        online: tokens are stored, not computed while training.
    """

    online = False

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
        self._codec = self._open_codec()
        self._shards = [open_shard(path / SHARDS / entry["file"]) for entry in facts["shards"]]
        self._check_shards()
        self._index()

    @classmethod
    def open(
        cls, path: str | Path, *, weights_digest: str | None = None, tokens_per_view: int | None = None
    ) -> "TokenStore":
        """Opens the folder of a store.

        Args:
            weights_digest: the teacher that the tokens must come from; None accepts any.
            tokens_per_view: how many tokens of a view the policy needs; None accepts any.

        Raises:
            UserError: no store, a newer schema, a damaged shard, tokens of another teacher, or another number of them.
        """
        path = Path(path)
        if not (path / STORE).is_file():
            raise UserError(f"{path} is not a token store: it has no {STORE}; extract_depth_tokens writes one")
        facts = json.loads((path / STORE).read_text())
        version = facts.get("schema_version")
        if version not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise UserError(f"{path / STORE} has the schema_version {version}: this reader knows {known}")
        store = cls(path, facts)
        if not store.available:
            return store
        if weights_digest is not None and store.weights_digest != weights_digest:
            raise UserError(
                f"{path} holds tokens of the weights {store.weights_digest[:12]}, {weights_digest[:12]} is asked for: "
                "extract the tokens again with that teacher"
            )
        if tokens_per_view is not None and store.tokens_per_view != tokens_per_view:
            raise UserError(
                f"{path} holds {store.tokens_per_view} tokens a view, {tokens_per_view} are needed: "
                f"extract again with extract_depth_tokens.num_tokens={tokens_per_view}"
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
        mask = np.zeros((len(keys), len(self.cameras)), bool)
        parts: list[tuple[Shard, np.ndarray]] = []
        for item in np.flatnonzero(found).tolist():
            number, row = int(self._shard_of[place[item]]), int(self._row_of[place[item]])
            shard = self._shards[number]
            slots = shard.tensors["slot"][row]
            mask[item] = present = slots >= 0
            if present.all():
                parts.append((shard, slots))
                continue
            for view in np.flatnonzero(slots != -1).tolist():
                mask[item, view] = True
                other, slot = self._elsewhere[number, row, view] if slots[view] == ELSEWHERE else (number, slots[view])
                parts.append((self._shards[other], np.array([slot])))
        tokens = np.zeros((*mask.shape, self.tokens_per_view, self.channels), np.float32)
        if parts:
            values = np.concatenate([shard.tensors["tokens"][slots] for shard, slots in parts])
            scaled = self._codec.scaled
            scales = np.concatenate([shard.tensors["scales"][slots] for shard, slots in parts]) if scaled else None
            if mask.all():
                self._codec.decode(values, scales, out=tokens.reshape(-1, *tokens.shape[2:]))
            else:
                present_tokens = np.empty((len(values), *tokens.shape[2:]), np.float32)
                self._codec.decode(values, scales, out=present_tokens)
                tokens[mask] = present_tokens
        return tokens, mask

    def of(self, batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """`read` of the frames that a batch of packed frames names in `episode` and `frame`."""
        return self.read(batch["episode"], batch["frame"])

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Episode and frame int64 [frames] of every stored frame, in order."""
        return self._keys >> 32, self._keys & 0xFFFFFFFF

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

    def _open_codec(self) -> Codec:
        if self.facts["codec"] != PcaInt8.name:
            return find_codec(self.facts["codec"])
        basis = Basis.load(self.path / BASIS)
        wanted = self.facts["basis_digest"]
        if basis.digest != wanted:
            raise UserError(
                f"{self.path / BASIS} has the digest {basis.digest[:12]}, {STORE} names {wanted[:12]}: "
                "restore the file, or delete the store and extract again"
            )
        return find_codec(self.facts["codec"], basis)

    def _check_shards(self) -> None:
        """UserError when a shard was made with another teacher, preprocessing or codec than the store."""
        wanted = {
            "weights_digest": self.weights_digest,
            "preprocessing_digest": self.preprocessing_digest,
            "codec": self.facts["codec"],
            "basis_digest": self.facts.get("basis_digest", ""),
        }
        for shard in self._shards:
            for key, value in wanted.items():
                made = shard.facts.get(key, "")
                if made != value:
                    raise UserError(
                        f"{shard.path} was made with the {key} {made[:12]}, {STORE} names {value[:12]}: "
                        "delete the store and extract again"
                    )

    def _index(self) -> None:
        """Sorted frames with their shard and row, and where the views are that another shard holds."""
        counts = [shard.rows for shard in self._shards]
        columns = [_key(shard.tensors["episode"], shard.tensors["frame"]) for shard in self._shards]
        keys = np.concatenate([np.zeros(0, np.int64), *columns])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        assert len(np.unique(keys)) == len(keys), "a frame is in the store twice"
        self._shard_of = np.repeat(np.arange(len(counts)), counts)[order]
        self._row_of = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])[order]
        wanted = {
            (number, row, view): bytes(shard.tensors["digest"][row, view])
            for number, shard in enumerate(self._shards)
            for row, view in np.argwhere(shard.tensors["slot"] == ELSEWHERE).tolist()
        }
        self._elsewhere: dict[tuple[int, int, int], tuple[int, int]] = {}
        if not wanted:
            return
        missing = set(wanted.values())
        held: dict[bytes, tuple[int, int]] = {}
        for number, shard in enumerate(self._shards):
            slots = shard.tensors["slot"]
            for row, view in np.argwhere(slots >= 0).tolist():
                digest = bytes(shard.tensors["digest"][row, view])
                if digest in missing:
                    held.setdefault(digest, (number, int(slots[row, view])))
        for place, digest in wanted.items():
            if digest not in held:
                shard, row = self._shards[place[0]], place[1]
                raise UserError(
                    f"{shard.path} refers to a view of episode {shard.tensors['episode'][row]} that no other shard "
                    "holds any more: delete the store and extract again"
                )
            self._elsewhere[place] = held[digest]


def _key(episode: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return (episode << 32) | frame
