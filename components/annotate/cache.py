"""Answers by the digest of their question: what was answered once is never asked again, whatever stopped the run."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components import state
from components.annotate.models import Reply
from model.errors import UserError


def cache_folder() -> Path:
    """Where answers are kept, for every run of this machine's state folder."""
    return state.home() / "annotation_answers"


class AnswerCache:
    """A folder of replies, one JSON file a digest; a file appears whole or not at all.

    Raises:
        UserError: the folder cannot be made; from `get` and `put`, it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._named():
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, digest: str) -> Reply | None:
        """The reply kept for a question's digest. A file that is no reply (a damaged disk) counts as none."""
        with self._named():
            try:
                kept = json.loads(self._path(digest).read_text())
                used = int(kept["input_tokens"]), int(kept["output_tokens"])
                return Reply(text=str(kept["text"]), input_tokens=used[0], output_tokens=used[1])
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return None

    def put(self, digest: str, reply: Reply) -> None:
        """Keeps a reply that has been found valid."""
        with self._named():
            state.write_json(self._path(digest), dataclasses.asdict(reply))

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.json"

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"answers are kept in {self._folder}, which fails ({error.strerror or error}): give that folder room "
                "and the right to read and write it, or set LINGBOT_HOME to another folder; what it holds is not "
                "asked again."
            ) from error
