"""Where the ledger's lines lie: a file of this machine, or one object a line in the shared storage.

Both take a line under a number that nobody has used yet, or say that somebody was faster: what a writer decided on the
lines before is never put behind others.

In storage a line is `ledger/<registry>/<number>.json`, written with If-None-Match, so that writers on several machines
need no lock. `<registry>` tells registries apart that share a storage, where the same version number means two things.
"""

import fcntl
import os
import re
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.adapters.storage import Storage, StoredFile
from model.errors import UserError

FOLDER = "ledger"
_NAME = re.compile(r"(\d{8})\.json\Z")
_AT_ONCE = 8  # a line is one small request: bound by round trips
_PROBE = "conditional-writes"
# Per ledger, what this process has read of it: a server that polls asks for what is new.
_read_before: dict[str, dict[int, tuple[StoredFile, bytes]]] = {}


class Log(ABC):
    """Lines in order. `where` names it in messages."""

    where: str

    @abstractmethod
    def lines(self) -> list[bytes]:
        """All lines, each with its newline.

        Raises:
            UserError: they cannot be read, or one is gone.
        """

    @abstractmethod
    def append(self, number: int, line: bytes) -> bool:
        """Adds line `number`, durable when this returns; False when there is one already.

        Raises:
            UserError: it cannot be written.
        """

    def name(self, number: int) -> str:
        """What a message calls a line."""
        return f"{self.where} line {number}"


class FileLog(Log):
    """A file of this machine that is only appended to."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)

    def lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # a line that is being written is not seen in part
            return file.read().splitlines(keepends=True)

    def append(self, number: int, line: bytes) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if len(file.read().splitlines()) != number - 1:
                return False
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return True


class StoredLog(Log):
    """Objects in the shared storage.

    Lines of `earlier`, which this machine wrote before it had a storage, are taken over when the storage has none. What
    was read stays in memory: a later read asks for the list and for what is new or has another etag.
    """

    def __init__(self, storage: Storage, registry: str, earlier: FileLog) -> None:
        self.storage, self.prefix, self.earlier = storage, f"{FOLDER}/{registry}", earlier
        self.where = storage.locate(self.prefix)
        self._read = _read_before.setdefault(self.where, {})
        self._probed = False

    def lines(self) -> list[bytes]:
        stored = self._stored()
        if not stored:
            return self.earlier.lines()
        missing = sorted(set(range(1, max(stored) + 1)) - set(stored))
        if missing:
            raise UserError(f"{self.name(missing[0])} is gone, and later ones are there: restore it from a copy")
        changed = [
            number
            for number, file in stored.items()
            # A folder's listing does not tell a changed file of the same size.
            if file.etag is None or number not in self._read or self._read[number][0] != file
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for number, line in zip(
                changed, pool.map(lambda n: self.storage.read_bytes(self._key(n)), changed), strict=True
            ):
                self._read[number] = stored[number], line
        return [self._read[number][1] for number in sorted(stored)]

    def append(self, number: int, line: bytes) -> bool:
        self._check_conditional()
        if not self._stored():
            for earlier, content in enumerate(self.earlier.lines(), start=1):
                if not self._put(earlier, content):
                    return False
        return self._put(number, line)

    def name(self, number: int) -> str:
        return f"{self.where}/{number:08d}.json"

    def _put(self, number: int, line: bytes) -> bool:
        key = self._key(number)
        # "There is one" also comes back when our own write arrived and only its answer was lost.
        return self.storage.write_bytes(key, line, if_absent=True) or self.storage.read_bytes(key) == line

    def _stored(self) -> dict[int, StoredFile]:
        found = {}
        for file in self.storage.list(self.prefix):
            match = _NAME.search(file.key)
            if match:
                found[int(match.group(1))] = file
        return found

    def _key(self, number: int) -> str:
        return f"{self.prefix}/{number:08d}.json"

    def _check_conditional(self) -> None:
        """A store that ignores If-None-Match would let one writer replace another's line without a word."""
        if self._probed:
            return
        key = f"{self.prefix}/{_PROBE}"
        self.storage.write_bytes(key, b"written once\n", if_absent=True)
        if self.storage.write_bytes(key, b"written again\n", if_absent=True):
            raise UserError(
                f"the storage {self.storage.url} does not keep an object that is written with If-None-Match: two "
                f"promotions at once could lose one; use a store with conditional writes"
            )
        self._probed = True
