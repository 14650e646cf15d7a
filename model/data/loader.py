"""The loader of training batches: drawn by a sampler, made in background threads, resumed exactly, memory stated."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.data.prefetch import Prefetcher
from model.data.sampler import Sampler
from model.errors import UserError

DECODER_BYTES = 2**23  # of a thread: a decoder, its scratch, and what the allocator keeps; measured 2 to 6 MB


class Frames(Protocol):
    """What a loader reads: `PackedDataset`, `UnpackedDataset`, or one of them in `Tolerant`."""

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Batches of steps `first` to `last` (exclusive).

    Which rows make the batch of a step depends on the sampler's seed and the step alone. So a loader that starts at
    step k gives what one that started at 0 gives from k on: resume is one number.

    Attributes:
        frames: where the batches are read.
        sampler: which rows.
        horizon: actions a chunk.
        first, last: steps.
        workers: threads that make batches, one each.
        ahead: batches made before they are asked for, at most.
    """

    frames: Frames
    sampler: Sampler
    horizon: int
    first: int = 0
    last: int
    workers: int = 2
    ahead: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise UserError(f"steps {self.first} to {self.last} are no range: the first must lie in 0 to the last.")

    def memory(self) -> int:
        """Bytes of the batches that exist at once, at most, and of the decoders.

        Batches: those ahead, the one that is handed over, and the one before it, which a loop holds until then.
        """
        batch = sum(array.nbytes for array in self._make(self.first).values())
        return (self.ahead + 2) * batch + self.workers * DECODER_BYTES

    def open(self) -> Prefetcher[int, dict[str, np.ndarray]]:
        """The batches, with the time waited for them; use it in a `with` statement."""
        return Prefetcher(self._make, range(self.first, self.last), depth=self.ahead, workers=self.workers)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        with self.open() as batches:
            yield from batches

    def _make(self, step: int) -> dict[str, np.ndarray]:
        return self.frames.batch(self.sampler.batch(step), self.horizon)
