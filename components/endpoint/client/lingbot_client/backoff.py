"""How long to wait before the next attempt to connect."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Waits that double from `first` to `most` seconds, each shortened by chance, so that the robots of a hall do not
    come back in step after a restart. After `patience` seconds in all the robot is told that the server is away.
    """

    first: float = 0.05
    most: float = 2.0
    patience: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.most:
            raise ValueError(f"waits from {self.first} to {self.most} s are not 0 < first <= most")
        if self.patience < 0:
            raise ValueError(f"patience {self.patience} s must be 0 or more")

    def wait(self, attempt: int, asked: float | None, random_share: "random.Random") -> float:
        """Seconds before attempt number `attempt` (from 1). `asked`: what the server asked for (Retry-After)."""
        longest = min(self.most, self.first * 2.0 ** (min(attempt, 32) - 1))
        return max(asked or 0.0, longest * random_share.uniform(0.5, 1.0))
