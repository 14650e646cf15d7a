"""The end of a token store: views that several shards have are kept once, the statistics are added up, store.json says
what is there. Also joins stores of episode ranges that were extracted apart.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from model.depth.codec import CodecError
from model.depth.moments import Moments
from model.depth.shard import ELSEWHERE, SCHEMA_VERSION, Shard, ShardFile, open_shard
from model.depth.writer import SCRATCH, SHARDS, StoreLayout, finished_shard, shard_name

STORE = "store.json"
STATISTICS = "statistics.safetensors"
BASIS = "basis.safetensors"
PART = 1024  # stored views copied at once


def write_unavailable(store: Path, reason: str) -> None:
    """A store that says why there are no tokens."""
    write_json(store / STORE, {"schema_version": SCHEMA_VERSION, "available": False, "reason": reason})


def finish_store(
    store: Path, layout: StoreLayout, shards: Sequence[tuple[int, int, int]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes store.json and the statistics over complete shards, removes scratch and shards of other attempts.

    Args:
        shards: (first episode, last episode, rows) of each shard, in order.
        facts: what else store.json holds (teacher, preprocessing, rate).
    """
    opened = []
    for first, last, rows in shards:
        shard = finished_shard(store, layout, first, last, rows)
        assert shard is not None, f"shard {shard_name(first, last)} is not complete"
        opened.append(shard)
    opened = share_views(store, layout, opened)
    moments = Moments.zeros(len(layout.cameras), layout.tokens_per_view, layout.channels)
    error, entries = CodecError(), []
    for shard in opened:
        tensors = shard.tensors
        moments.merge(Moments(count=tensors["count"], mean=tensors["mean"], squares=tensors["squares"]))
        figures = dict(shard.facts["error_against_bf16"])
        error.merge(CodecError(**figures.pop("sums")))
        entry = {"file": shard.path.name} | {key: shard.facts[key] for key in ("first", "last", "rows")}
        entries.append(entry | {"error_against_bf16": figures})
    mean, deviation = moments.by_place()
    (store / STATISTICS).write_bytes(save({"mean": mean, "std": deviation}))
    channel_mean, channel_std = moments.by_channel()
    frames = sum(shard.rows for shard in opened)
    stored = sum(len(shard.tensors["tokens"]) for shard in opened)
    content = {
        "schema_version": SCHEMA_VERSION,
        "available": True,
        **facts,
        **layout.facts(),
        "frames": frames,
        "views_with_depth": {camera: int(count) for camera, count in zip(layout.cameras, moments.count, strict=True)},
        "views_without_depth": frames * len(layout.cameras) - int(moments.count.sum()),
        "views_stored": stored,
        "views_shared": int(moments.count.sum()) - stored,
        "error_against_bf16": error.summary(),
        "channel_statistics": {"mean": channel_mean.tolist(), "std": channel_std.tolist()},
        "shards": entries,
    }
    named = {entry["file"] for entry in entries}
    for path in sorted((store / SHARDS).iterdir()):
        if path.name not in named:
            path.unlink()
    shutil.rmtree(store / SCRATCH, ignore_errors=True)
    write_json(store / STORE, content)
    return content


def share_views(store: Path, layout: StoreLayout, shards: Sequence[Shard]) -> list[Shard]:
    """Keeps each view in the first shard that has it; the others refer to it by its digest.

    A pure function of complete shards, and each is replaced in one move: a killed attempt is repeated.
    """
    digests = [shard.tensors["digest"].reshape(-1, shard.tensors["digest"].shape[-1]) for shard in shards]
    stored = [np.flatnonzero(shard.tensors["slot"].reshape(-1) >= 0) for shard in shards]
    # eight bytes find the candidates (sorting whole digests would be far slower), all 32 decide
    prefixes = [
        np.ascontiguousarray(digest[place, :8]).view(np.uint64)[:, 0]
        for digest, place in zip(digests, stored, strict=True)
    ]
    shard_of = np.repeat(np.arange(len(shards)), [len(place) for place in stored])
    places = np.concatenate([np.zeros(0, np.int64), *stored])
    _, first, which = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *prefixes]), return_index=True, return_inverse=True
    )
    owner = first[which]
    shared: dict[int, list[int]] = {}
    for entry in np.flatnonzero(shard_of[owner] != shard_of).tolist():
        own, other = shard_of[entry], shard_of[owner[entry]]
        if np.array_equal(digests[own][places[entry]], digests[other][places[owner[entry]]]):
            shared.setdefault(int(own), []).append(int(places[entry]))
    return [
        _without(store, layout, shard, np.array(shared[number])) if number in shared else shard
        for number, shard in enumerate(shards)
    ]


def _without(store: Path, layout: StoreLayout, shard: Shard, places: np.ndarray) -> Shard:
    """The shard rewritten without the tokens of these views (places in its flattened `slot`)."""
    tensors = shard.tensors
    slot = tensors["slot"].reshape(-1).copy()
    slot[places] = ELSEWHERE
    kept = np.unique(slot[slot >= 0])
    slot[slot >= 0] = np.searchsorted(kept, slot[slot >= 0])
    fixed, growing = layout.forms(shard.rows)
    facts = dict(shard.facts)
    partial = store / SCRATCH / f"{shard.path.name}.{os.getpid()}.partial"
    bare = facts | {"error_against_bf16": {}}
    with ShardFile(partial, bare, fixed, growing, most=tensors["slot"].size) as file:
        for name in fixed:
            file.put(name, slot.reshape(tensors["slot"].shape) if name == "slot" else tensors[name])
        for start in range(0, len(kept), PART):
            part = kept[start : start + PART]
            file.append(*(tensors[name][part] for name in growing))
        file.finish(shard.path, facts)
    return open_shard(shard.path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces the file in one move."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
