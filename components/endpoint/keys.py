"""API keys: `Authorization: Bearer KEY`, or openpi's `Api-Key KEY`, against a file that holds only digests.

The file (LINGBOT_API_KEYS_FILE) is JSON: `[{"name": "robot-1", "sha256": "<hex digest>", "scopes": ["infer"]}]`.
`infer` asks for actions; `admin` reloads and drains. An entry without `scopes` may infer. The file is read again when
it changes, so that a key is added or revoked without a restart (`components.endpoint.key_file` writes it).
"""

import hashlib
import hmac
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.endpoint.errors import Forbidden, Unauthorized
from components.endpoint.options import KEYS_VARIABLE
from model.errors import UserError, unknown_name

INFER, ADMIN = "infer", "admin"
SCOPES = (INFER, ADMIN)
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_HEADER = re.compile(r"(?:bearer|api-key)\s+(\S{1,512})\Z", re.IGNORECASE)
logger = logging.getLogger("lingbot.endpoint")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key as the file holds it. `name` stands in logs; the key itself is nowhere."""

    name: str
    sha256: str
    scopes: tuple[str, ...] = (INFER,)
    created: str = ""  # UTC, ISO 8601; empty where the file does not say

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            raise UserError(f"key name {self.name!r} must be 1 to 64 letters, digits, dots, dashes or @, as in robot-1")
        if not isinstance(self.sha256, str) or not _DIGEST.match(self.sha256):
            raise UserError(f"key '{self.name}' must have its sha256 as 64 hex digits, not the key itself")
        if not self.scopes:
            raise UserError(f"key '{self.name}' has no scope: give it {' or '.join(SCOPES)}")
        for scope in self.scopes:
            if scope not in SCOPES:
                raise unknown_name("scope", str(scope), SCOPES)

    @classmethod
    def from_json(cls, entry: Any) -> "Key":
        if not isinstance(entry, Mapping) or not {"name", "sha256"} <= entry.keys():
            raise UserError("each key is an object with at least name and sha256")
        scopes = entry.get("scopes", [INFER])
        if not isinstance(scopes, list):
            raise UserError("scopes are a list of texts")
        return cls(
            name=entry["name"], sha256=entry["sha256"], scopes=tuple(scopes), created=str(entry.get("created", ""))
        )

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": self.sha256, "scopes": list(self.scopes), "created": self.created}


def key_digest(key: str) -> str:
    """What the file holds. A plain hash is enough for keys of 128 random bits or more; it is not for passwords."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file, in its order.

    Raises:
        UserError: it cannot be read, is no list of keys, or has a name twice.
    """
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{KEYS_VARIABLE} {path} cannot be read as a list of keys ({error}): name the file that `lingbot keys add` "
            "wrote, or restore it"
        ) from error
    if not isinstance(entries, list):
        raise UserError(f"{KEYS_VARIABLE} {path} cannot be read: it must be a list of {{name, sha256, scopes}}")
    try:
        keys = tuple(Key.from_json(entry) for entry in entries)
    except UserError as error:
        raise UserError(f"{KEYS_VARIABLE} {path}: {error}") from error
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{KEYS_VARIABLE} {path} holds the name '{name}' twice: give each key its own name")
    return keys


class KeyRing:
    """The keys of one file.

    A file that turns unreadable while the server runs does not lock the robots out: the keys that were read last stay,
    and the log says so. One that was emptied lets nobody in.

    Raises:
        UserError: when the file cannot be read at the start, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._keys = read_keys(path)
        if not self._keys:
            raise UserError(
                f"{KEYS_VARIABLE} {path} must hold at least one key, else nobody could connect: "
                f"run `lingbot keys add NAME --file {path}`"
            )

    def check(self, authorization: str | None, scope: str = INFER) -> Key:
        """The key in an Authorization header, if it may do `scope`.

        Raises:
            Unauthorized: no key, or one that is not known.
            Forbidden: a known key without this scope.
        """
        self._refresh()
        match = _HEADER.match((authorization or "").strip())
        if match is None:
            raise Unauthorized("a key is required: send the header 'Authorization: Bearer KEY' or 'Api-Key KEY'")
        digest, found = key_digest(match.group(1)), None
        for key in self._keys:  # all of them: the time tells nothing about which one matched
            if hmac.compare_digest(digest, key.sha256):
                found = key
        if found is None:
            raise Unauthorized("the key is not known to this server")
        if scope not in found.scopes:
            raise Forbidden(f"the key '{found.name}' may {' and '.join(found.scopes)}, not {scope}")
        return found

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except UserError as error:
            logger.error("%s; the keys that were read before stay valid until it is mended", error)
            return
        logger.warning("the keys were read again: %s", ", ".join(key.name for key in self._keys) or "none is left")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does, also when it is replaced by one of equal size in the same tick of the clock."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
