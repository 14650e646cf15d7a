"""The frames that the teacher sees: which ones, read in batches, with the digest of each view and its depth checked."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from model.depth.config import MIN_DEPTH
from model.depth.shard import DIGEST_BYTES
from model.depth.sources import DepthSource
from model.depth.teacher import Preprocessing
from model.errors import UserError

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

FAR = 50.0  # metres; half of a scene beyond it is no robot's view (16-bit millimetres end at 65.5 m)
Episodes = tuple[tuple[int, int], ...]  # number and length


def plan_shards(
    dataset: "LeRobotDataset", quarantined: frozenset[int], rate: float, episodes_per_shard: int
) -> tuple[int, list[tuple[int, int, Episodes]]]:
    """Stride, and (first, last, episodes with their lengths) of each shard that has any.

    The frames are those that packing takes: every round(fps / rate)-th.
    """
    stride = max(1, round(dataset.info.fps / rate))
    usable = {e.index: e.length for e in dataset.episodes if e.index not in quarantined and e.length > 0}
    shards: dict[int, list[tuple[int, int]]] = {}
    for episode, length in sorted(usable.items()):
        shards.setdefault(episode // episodes_per_shard, []).append((episode, length))
    return stride, [
        (number * episodes_per_shard, (number + 1) * episodes_per_shard - 1, tuple(episodes))
        for number, episodes in sorted(shards.items())
    ]


@dataclass(frozen=True, kw_only=True)
class Views:
    """One batch of B frames and V views.

    Attributes:
        images, depth: by view, uint8 [B, H, W, 3] and float32 metres [B, H, W]; empty where the episode lacks it.
        mask: bool [B, V], the view has a valid pixel of depth.
        digest: uint8 [B, V, 32], of what the depth and the tokens are made from; zeros where the view is missing.
    """

    images: tuple[np.ndarray, ...]
    depth: tuple[np.ndarray, ...]
    mask: np.ndarray
    digest: np.ndarray


@dataclass(frozen=True)
class FrameReader:
    """Reads frames of a dataset with depth of a source.

    Attributes:
        views: key of each camera in the dataset, None for one that it lacks.
        cameras: their names, for messages.
    """

    dataset: "LeRobotDataset"
    source: DepthSource
    preprocessing: Preprocessing
    views: Sequence[str | None]
    cameras: Sequence[str]

    def batches(self, episode: int, frames: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, Views]]:
        """The frames of an episode in their order, at most `most` at once, in batches of nearly one size.

        Raises:
            UserError: a frame cannot be read, is not square, or its depth cannot be metres.
        """
        streams = [self._stream(episode, view, frames) for view in self.views]
        for batch in np.array_split(frames, -(-len(frames) // most)):
            yield batch, self._read(streams, episode, batch)

    def _stream(
        self, episode: int, view: str | None, frames: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]] | None:
        """Colour and recorded depth of one view; None where this episode has no depth of it."""
        if view is None:
            return None
        indices = frames.tolist()
        if self.source.estimate is not None:
            return ((image, None) for image in self.dataset.frames(episode, view, indices))
        if self.dataset.episode(episode).depth.get(view) is None:
            return None
        return zip(self.dataset.frames(episode, view, indices), self.dataset.depth(episode, view, indices), strict=True)

    def _read(
        self, streams: Sequence[Iterator[tuple[np.ndarray, np.ndarray | None]] | None], episode: int, frames: np.ndarray
    ) -> Views:
        images: list[np.ndarray] = []
        depths: list[np.ndarray] = []
        mask = np.zeros((len(frames), len(streams)), bool)
        digest = np.zeros((len(frames), len(streams), DIGEST_BYTES), np.uint8)
        for view, stream in enumerate(streams):
            if stream is None:
                images.append(np.zeros((len(frames), 0, 0, 3), np.uint8))
                depths.append(np.zeros((len(frames), 0, 0), np.float32))
                continue
            pairs = list(islice(stream, len(frames)))
            where = f"episode {episode} frame {int(frames[0])}, camera '{self.cameras[view]}'"
            image = np.stack([colour for colour, _ in pairs])
            digest[:, view] = [frame_digest(colour, metres) for colour, metres in pairs]
            if self.source.estimate is not None:
                image = self._square(image, where)
                depth = self.source.estimate(image)
            else:
                depth = np.stack([metres for _, metres in pairs if metres is not None])
                self._check_shape(image, where)
            mask[:, view] = check_depth(depth, where)
            images.append(image)
            depths.append(depth)
        return Views(images=tuple(images), depth=tuple(depths), mask=mask, digest=digest)

    def _square(self, image: np.ndarray, where: str) -> np.ndarray:
        self._check_shape(image, where)
        return self.preprocessing.square(image)

    def _check_shape(self, image: np.ndarray, where: str) -> None:
        try:
            self.preprocessing.check_shape(*image.shape[1:3])
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def frame_digest(image: np.ndarray, depth: np.ndarray | None) -> np.ndarray:
    """uint8 [32]: sha256 over shapes and bytes of a view's colour and, where it is recorded, its depth."""
    digest = hashlib.sha256(f"{image.shape} {None if depth is None else depth.shape}\n".encode())
    digest.update(np.ascontiguousarray(image).data)
    if depth is not None:
        digest.update(np.ascontiguousarray(depth).data)
    return np.frombuffer(digest.digest(), np.uint8)


def check_depth(depth: np.ndarray, where: str) -> np.ndarray:
    """Bool [B]: the frames of `depth` [B, H, W] that have a valid pixel. UserError when it cannot be metres."""
    valid = np.isfinite(depth) & (depth > MIN_DEPTH)
    count = int(valid.sum())
    if count and 2 * int((valid & (depth > FAR)).sum()) > count:
        raise UserError(
            f"depth of {where} has a median of {float(np.median(depth[valid])):.0f} m: it looks like millimetres where "
            "metres are expected; divide it by 1000 when recording"
        )
    return valid.any(axis=(1, 2))
