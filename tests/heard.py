"""Progress that keeps what it was told."""

from model.progress import Silent


class Heard(Silent):
    def __init__(self) -> None:
        self.updates: list[tuple[int, int]] = []
        self.messages: list[str] = []

    def update(self, done: int, total: int, **figures: float) -> None:
        self.updates.append((done, total))

    def message(self, text: str) -> None:
        self.messages.append(text)
