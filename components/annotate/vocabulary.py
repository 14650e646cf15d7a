"""The words that a project lets its annotations use: verbs and objects, from a YAML file; empty lists allow any."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.yaml_files import read_yaml


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Lower-case verbs and objects. An empty tuple allows every word."""

    verbs: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    def faults(self, verb: str | None, objects: Sequence[str]) -> list[str]:
        """What is not of the vocabulary, a sentence each, with the nearest word: what a model is told to mend.

        `verb` is None where a text has none of its own (an episode's).
        """
        found = [] if verb is None or not self.verbs or verb in self.verbs else [_unknown("verb", verb, self.verbs)]
        unknown = [name for name in objects if self.objects and name not in self.objects]
        return found + [_unknown("object", name, self.objects) for name in unknown]

    def described(self) -> str:
        """For a prompt; "" when every word is allowed."""
        lines = [
            f"Allowed {kind}: {', '.join(words)}."
            for kind, words in (("verbs", self.verbs), ("objects", self.objects))
            if words
        ]
        return "\n".join(lines)


def read_vocabulary(path: str) -> Vocabulary:
    """The vocabulary of a YAML file with the lists `verbs` and `objects`; that of any word for an empty path.

    Raises:
        UserError: the file cannot be read, has other keys, or a list with something else than words.
    """
    if not path:
        return Vocabulary()
    given = read_yaml(Path(path), f"annotate.vocabulary {path}")
    if not isinstance(given, dict) or not given or not given.keys() <= {"verbs", "objects"}:
        keys = ", ".join(map(str, given)) if isinstance(given, dict) and given else "no keys"
        raise UserError(f"{path} has {keys}: a vocabulary has the lists `verbs` and `objects`, one of them or both.")
    return Vocabulary(**{kind: _words(path, kind, words) for kind, words in given.items()})


def _words(path: str, kind: str, words: Any) -> tuple[str, ...]:
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise UserError(f"{path}: `{kind}` is {words!r}; give a list of words, as in `{kind}: [pick up, place]`.")
    return tuple(dict.fromkeys(word.strip().lower() for word in words))


def _unknown(kind: str, word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"'{word}' is no allowed {kind}" + (f" (did you mean '{near[0]}'?)" if near else "")
