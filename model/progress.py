"""How long work tells what it is doing: a small protocol, so that `model` needs no pipeline tool."""

from typing import Protocol


class Progress(Protocol):
    """Receives progress of one step. Implementations must be cheap: `update` is called many times a second."""

    def update(self, done: int, total: int, **figures: float) -> None:
        """`done` of `total` units are finished; `figures` are the numbers worth watching (loss, samples_per_second)."""

    def message(self, text: str) -> None:
        """One line about what is being done now."""


class Silent:
    """Progress that nobody watches."""

    def update(self, done: int, total: int, **figures: float) -> None:
        pass

    def message(self, text: str) -> None:
        pass
