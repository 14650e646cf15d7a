"""Answers by the digest of their question: what was answered once is never asked again, whatever stopped the run."""

import dataclasses
import json
from pathlib import Path

from components import state
from components.annotate.models import Reply


def cache_folder() -> Path:
    """Where answers are kept, for every run of this machine's state folder."""
    return state.home() / "annotation_answers"


class AnswerCache:
    """A folder of replies, one JSON file a digest; a file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str) -> Reply | None:
        """The reply kept for a question's digest. A file that is no reply (a damaged disk) counts as none."""
        try:
            kept = json.loads(self._path(digest).read_text())
            return Reply(text=kept["text"], input_tokens=kept["input_tokens"], output_tokens=kept["output_tokens"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None

    def put(self, digest: str, reply: Reply) -> None:
        """Keeps a reply that has been found valid."""
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        state.write_json(path, dataclasses.asdict(reply))

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.json"
