"""Mean and deviation of tokens by view and place, of parts that are merged."""

from dataclasses import dataclass

import numpy as np


@dataclass(kw_only=True)
class Moments:
    """Count [V], mean and summed squared deviation [V, N, C] of tokens by view and place; two can be merged."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def zeros(cls, views: int, tokens: int, channels: int) -> "Moments":
        shape = (views, tokens, channels)
        return cls(count=np.zeros(views), mean=np.zeros(shape), squares=np.zeros(shape))

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
