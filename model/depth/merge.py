"""Joins token stores of episode ranges that were extracted apart, on the nodes of a cluster.

    python -m model.depth.merge OUTPUT PART [PART ...]

The parts must come from one teacher, one preprocessing and one codec, and cover each episode once. Their shards are
linked (copied from another disk), so nothing is extracted again; views that several parts have are kept once.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.depth.finish import BASIS, finish_store
from model.depth.pca import Basis
from model.depth.store import TokenStore
from model.depth.writer import SHARDS, StoreLayout
from model.errors import UserError

SAME = (
    "cameras", "tokens_per_view", "channels", "codec", "basis_digest", "preprocessing_digest", "preprocessing",
    "teacher", "fps", "rate", "stride",
)  # fmt: skip


def merge_stores(output: Path, parts: Sequence[Path]) -> dict[str, Any]:
    """Writes the store of all parts into the empty folder `output` and gives the content of its store.json.

    Raises:
        UserError: a part is no store or without tokens, the parts differ in how they were made or overlap, one is
            missing, or `output` is not empty.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty: give a new folder for the joined store")
    stores = sorted((TokenStore.open(part) for part in parts), key=_first)
    for store in stores[1:]:
        for key in SAME:
            if store.facts[key] != stores[0].facts[key]:
                hint = " (extract the parts on one type of machine)" if key == "basis_digest" else ""
                raise UserError(
                    f"{store.path} and {stores[0].path} differ in {key}: parts of one store are made by one teacher, "
                    f"preprocessing and codec{hint}"
                )
    for before, after in zip(stores, stores[1:], strict=False):
        if before.facts["shards"][-1]["last"] >= after.facts["shards"][0]["first"]:
            raise UserError(f"{before.path} and {after.path} have the same episodes: give each part once")
    _check_complete(stores)
    (output / SHARDS).mkdir(parents=True)
    spans: list[tuple[int, int, int]] = []
    for store in stores:
        for entry in store.facts["shards"]:
            _link(store.path / SHARDS / entry["file"], output / SHARDS / entry["file"])
            spans.append((entry["first"], entry["last"], entry["rows"]))
    facts = stores[0].facts
    basis = None
    if facts["basis_digest"]:
        shutil.copyfile(stores[0].path / BASIS, output / BASIS)
        basis = Basis.load(output / BASIS)
    layout = StoreLayout(
        cameras=tuple(facts["cameras"]),
        tokens_per_view=facts["tokens_per_view"],
        channels=facts["channels"],
        codec=facts["codec"],
        weights_digest=facts["teacher"]["weights_digest"],
        preprocessing_digest=facts["preprocessing_digest"],
        basis=basis,
    )
    kept = {key: facts[key] for key in ("teacher", "preprocessing", "fps", "rate", "stride")}
    return finish_store(output, layout, spans, kept)


def _first(store: TokenStore) -> int:
    if not store.available:
        raise UserError(f"{store.path} has no tokens ({store.reason}): leave it out")
    if store.facts["schema_version"] == 1:
        raise UserError(f"{store.path} has the schema_version 1, which is read but not joined: extract it again")
    return int(store.facts["shards"][0]["first"])


def _check_complete(stores: Sequence[TokenStore]) -> None:
    """UserError when the parts name how many there are, and one of them is not here."""
    counts = {store.facts["part"]["count"] for store in stores if "part" in store.facts}
    if not counts:
        return
    here = {store.facts["part"]["index"] for store in stores if "part" in store.facts}
    missing = sorted(set(range(max(counts))) - here)
    if len(counts) > 1 or missing:
        raise UserError(
            f"the parts are {sorted(here)} of {sorted(counts)}: "
            + (f"part {missing[0]} is missing, give all of them" if missing else "they were cut in different ways")
        )


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system allows one: shards are replaced, never written to."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model.depth.merge", description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("parts", type=Path, nargs="+")
    args = parser.parse_args(arguments)
    try:
        content = merge_stores(args.output, args.parts)
    except UserError as error:
        print(f"merge: {error}", file=sys.stderr)
        return 2
    figures = ("frames", "views_stored", "views_shared", "error_against_bf16")
    print(json.dumps({key: content[key] for key in figures}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
