"""Samples that cannot be read: the error that names one, and a budget within which training goes on without them.

Nothing is left out in silence: each bad sample is named once to whoever asked, and one more than the budget stops.
"""

import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np

from model.errors import UserError


class SampleError(UserError):
    """A sample that cannot be read. `episode`, `frame` (None: the whole episode) and `column` (or camera) say which."""

    def __init__(self, message: str, episode: int, frame: int | None, column: str) -> None:
        super().__init__(message)
        self.episode = episode
        self.frame = frame
        self.column = column

    def __reduce__(self) -> tuple[type["SampleError"], tuple[str, int, int | None, str]]:
        """Errors cross process borders: an exception of several arguments does not without this."""
        return type(self), (str(self), self.episode, self.frame, self.column)


class RowFrames(Protocol):
    """The part of a packed (or unpacked) dataset that is needed here. `frames` has columns `episode` and `frame`."""

    @property
    def frames(self) -> dict[str, np.ndarray]: ...

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]: ...


class Tolerant:
    """Batches of `frames` in which a sample that cannot be read is replaced by its nearest readable neighbour.

    The neighbour is the nearest later row of the same episode, then the nearest earlier one, so a batch stays a pure
    function of its rows and of the data, and resume stays exact. Rows that are bad are remembered; distinct ones count.
    Safe to call from several threads.

    Args:
        frames: where the batches come from.
        budget: distinct bad samples to go on with; 0 stops at the first.
        report: told one sentence for each bad sample.

    Attributes:
        bad: the sentences so far, by row.
    """

    def __init__(self, frames: RowFrames, *, budget: int, report: Callable[[str], None]) -> None:
        if budget < 0:
            raise UserError(f"the budget of bad samples is {budget}: it must be 0 or more.")
        self._frames = frames
        self._budget = budget
        self._report = report
        self._lock = threading.Lock()
        self.bad: dict[int, str] = {}

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        """As `frames.batch`; UserError, naming every bad sample, when there are more than the budget."""
        rows = np.asarray(rows)
        while True:
            chosen = np.array([self._readable(int(row)) for row in rows], np.int64)
            try:
                return self._frames.batch(chosen, horizon)
            except SampleError as error:
                for row in self._rows_of(error):
                    self._count(row, error)

    def _rows_of(self, error: SampleError) -> list[int]:
        columns = self._frames.frames
        found = columns["episode"] == error.episode
        if error.frame is not None:
            found &= columns["frame"] == error.frame
        rows = np.flatnonzero(found).tolist()
        if not rows:  # the frame is no row of ours: nothing could be left out, and the loop would not end
            raise error
        return rows

    def _count(self, row: int, error: SampleError) -> None:
        with self._lock:
            if row in self.bad:
                return
            self.bad[row] = str(error)
            number = len(self.bad)
            if number > self._budget:
                listed = "\n".join(f"  {sentence}" for sentence in dict.fromkeys(self.bad.values()))
                raise UserError(
                    f"samples that cannot be read: {number}, the budget is {self._budget}; leave their episodes out or "
                    f"raise the budget (unreadable_samples):\n{listed}"
                ) from error
        self._report(f"sample left out, {number} of a budget of {self._budget}: {error}")

    def _readable(self, row: int) -> int:
        if row not in self.bad:
            return row
        episode = self._frames.frames["episode"]
        own = np.flatnonzero(episode == episode[row])
        for candidate in (*own[own > row], *own[own < row][::-1]):
            if int(candidate) not in self.bad:
                return int(candidate)
        raise UserError(f"no sample of episode {episode[row]} can be read: {self.bad[row]} Leave the episode out.")
