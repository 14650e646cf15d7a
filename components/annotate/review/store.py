"""The file that a review is kept in: read anew when another process wrote it, written whole, under a lock."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.annotate.consensus import is_disputed
from components.annotate.episodes import Row, by_episode, check_within
from components.annotate.review.edits import revision, settle
from model.data.annotations import ACCEPTED, read_annotations, write_annotations
from model.errors import UserError


class Changed(Exception):
    """Somebody else saved the episode since `base` was read; `rows` are what it is now."""

    def __init__(self, episode: int, rows: Sequence[Row]) -> None:
        super().__init__(f"episode {episode} was saved by somebody else in the meantime")
        self.rows = rows


@dataclass(frozen=True, kw_only=True)
class Change:
    """An episode's segments as a reviewer leaves them; `base` is the revision of the rows that they were shown.

    `segments` have the columns of `edits.EDITABLE`; `now` is ISO 8601, UTC.
    """

    base: str
    segments: Sequence[Row]
    reviewer: str
    now: str


class ReviewFile:
    """The rows of every episode, as annotated and as reviewed since.

    Args:
        path: the reviewed file; made by the first save.
        annotated: rows that the review starts from, or goes on with: they count where nobody has done anything yet to
            the file's rows of the episode.
        lengths: frames of each episode of the dataset.

    Raises:
        UserError: the file cannot be read or written, or has rows that the dataset has no frames for.
    """

    def __init__(self, path: Path, annotated: Sequence[Row], lengths: Mapping[int, int]) -> None:
        self.path = path
        self._lengths = lengths
        self._annotated = _checked(annotated, lengths, "the annotations")
        self._lock = threading.RLock()
        self._seen: tuple[int, ...] | None = None
        self._rows: dict[int, list[dict[str, Any]]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._read()
        except OSError as error:
            raise UserError(
                f"the review cannot be kept in '{path}' ({error.strerror or error}): give another --output."
            ) from error

    def episodes(self) -> Mapping[int, list[dict[str, Any]]]:
        """Rows by episode, in order; do not change them."""
        with self._lock:
            self._read()
            return self._rows

    def save(self, changes: Mapping[int, Change]) -> dict[int, list[dict[str, Any]]]:
        """Puts reviewers' segments in place of episodes'; the whole file is on the disk when this returns.

        Returns:
            The rows of those episodes as they are now.

        Raises:
            Changed: an episode is not what its reviewer was shown; nothing is saved.
            UserError: there is no such episode, the segments are not right (`edits.settle`), or the file cannot be
                written; nothing is saved.
        """
        try:
            with self._alone():
                self._read()
                settled = {}
                for episode, change in changes.items():
                    stored = self.rows(episode)
                    if change.base != revision(stored):
                        raise Changed(episode, stored)
                    settled[episode] = settle(
                        episode,
                        change.segments,
                        [*stored, *self._annotated.get(episode, ())],
                        length=self._lengths[episode],
                        reviewer=change.reviewer,
                        now=change.now,
                    )
                if any(self._rows[episode] != rows for episode, rows in settled.items()):
                    self._write({**self._rows, **settled})
                return settled
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror or error}), what you did is not saved: make room or "
                "make the folder writable, then save again."
            ) from error

    def rows(self, episode: int) -> list[dict[str, Any]]:
        """The rows of one episode.

        Raises:
            UserError: it has none.
        """
        rows = self.episodes().get(episode)
        if rows is None:
            raise UserError(f"episode {episode} has no segments to review: choose one of the list.")
        return rows

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Excludes the other threads and the other processes that keep a review in this file."""
        with self._lock, self.path.with_name(f".{self.path.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self) -> None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._seen, self._rows = None, self._annotated
            return
        seen = _seen(stat)
        if seen != self._seen:
            reviewed = _checked(read_annotations(self.path), self._lengths, str(self.path))
            touched = {episode: rows for episode, rows in reviewed.items() if any(map(_is_touched, rows))}
            self._rows = dict(sorted({**reviewed, **self._annotated, **touched}.items()))
            self._seen = seen

    def _write(self, rows: dict[int, list[dict[str, Any]]]) -> None:
        new = f".{self.path.name}.new"
        write_annotations(self.path.parent, [row for episode in rows.values() for row in episode], new)
        written = self.path.with_name(new)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        self._rows, self._seen = rows, _seen(written.stat())
        written.replace(self.path)


def _seen(stat: os.stat_result) -> tuple[int, ...]:
    """What tells one content of a file from another: each is a new file."""
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _is_touched(row: Row) -> bool:
    """Whether a person had to do with it: changed or accepted it, or disputes it with another one."""
    return bool(row["reviewer"] or row["review_state"] == ACCEPTED or is_disputed(row))


def _checked(rows: Sequence[Row], lengths: Mapping[int, int], source: str) -> dict[int, list[dict[str, Any]]]:
    """Rows by episode, all of them within its frames."""
    check_within(rows, lengths, source)
    return {episode: [dict(row) for row in of_it] for episode, of_it in by_episode(rows).items()}
