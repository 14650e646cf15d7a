"""What writes answers: the one interface of a served model and of a local one, and how an attempt can fail."""

from dataclasses import dataclass
from typing import Protocol

from components.annotate.prompts import Question


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A model's text, and the tokens it took as the model counts them."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0


class Passing(Exception):
    """An attempt that failed for a reason that may pass; asked again after `retry_after` seconds, where given."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unreachable(Passing):
    """An attempt that reached nobody. Where no attempt ever reached anybody, the address is wrong or nothing runs."""


class Model(Protocol):
    """A vision-language model that answers questions.

    Attributes:
        name: what the annotations' `source` says, and part of what a cached answer belongs to.
        concurrency: questions that it takes at once.
    """

    name: str
    concurrency: int

    async def ask(self, question: Question, complaint: str) -> Reply:
        """One attempt. `complaint` says what was wrong with the answer before; "" the first time.

        Raises:
            Passing: try again.
            UserError: no attempt can succeed (no such model, a wrong key): the run ends here.
        """
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...
