"""Datasets in a bucket: which there are, by what digest, and whether they have arrived whole and are at rest."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from components import state
from components.adapters.filesystem import open_dataset
from components.adapters.storage import FolderStorage, Storage
from model.data.lerobot_layout import INFO
from model.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A dataset where it lies. `digest` is over the names, sizes and tags of its files: it changes with every byte."""

    address: str
    digest: str
    files: int
    bytes: int


def arrivals(address: str) -> list[Arrival]:
    """The datasets at or below an address, each a folder with `meta/info.json`, by address.

    Raises:
        UserError: it is no bucket, or the bucket cannot be listed.
    """
    storage = Storage.from_url(address)
    if isinstance(storage, FolderStorage):
        raise UserError(f"'{address}' is a folder of this machine, which pods do not see: give s3://bucket/prefix.")
    files = [file for file in storage.list() if not any(part.startswith(".") for part in PurePosixPath(file.key).parts)]
    roots = {str(PurePosixPath(file.key).parent.parent) for file in files if f"/{file.key}".endswith(f"/{INFO}")}
    held: dict[str, list[tuple[str, int, str | None]]] = {root: [] for root in roots}
    for file in files:
        # The outermost, where one dataset lies in another.
        parents = [str(parent) for parent in reversed(PurePosixPath(file.key).parents)]
        root = next((parent for parent in parents if parent in roots), None)
        if root is not None:
            held[root].append((str(PurePosixPath(file.key).relative_to(root)), file.size, file.etag))
    return [
        Arrival(
            address=address.rstrip("/") if root == "." else f"{address.rstrip('/')}/{root}",
            digest=hashlib.sha256(state.canonical_json(sorted(listed))).hexdigest(),
            files=len(listed),
            bytes=sum(size for _, size, _ in listed),
        )
        for root, listed in sorted(held.items())
        if listed
    ]


class Unfinished(UserError):
    """A dataset that is not whole yet."""


def lack_of(arrival: Arrival) -> str | None:
    """Why a dataset is not whole yet, in a sentence; None when every file that its metadata names is there."""
    try:
        dataset = open_dataset(arrival.address)
    except UserError as error:
        return str(error)
    declared = dataset.info.total_episodes
    if declared is not None and len(dataset.episodes) != declared:
        return f"{arrival.address} declares {declared} episodes and describes {len(dataset.episodes)}."
    for episode in dataset.episodes:
        clips = {camera: clip for kind in (episode.videos, episode.depth) for camera, clip in kind.items()}
        absent = ["its table"] if episode.table is None else []
        absent += [f"the video of {camera}" for camera, clip in clips.items() if clip is None]
        if absent:
            return f"{arrival.address} lacks {absent[0]} for episode {episode.index}."
    return None


class Debounce:
    """Holds datasets back until nothing of them has changed for a while: an upload is many files, and many notices."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 <= seconds < math.inf:
            raise UserError(f"--settle is {seconds:g}: it must be 0 seconds or more.")
        self._seconds, self._clock = seconds, clock
        self._seen: dict[str, tuple[str, float]] = {}

    def settled(self, found: Iterable[Arrival]) -> list[Arrival]:
        """Those that are as they were `seconds` ago, and were looked at more than once."""
        now, at_rest = self._clock(), []
        for arrival in found:
            digest, since = self._seen.get(arrival.address, ("", now))
            if digest != arrival.digest:
                self._seen[arrival.address] = (arrival.digest, now)
            elif now - since >= self._seconds:
                at_rest.append(arrival)
        return at_rest
