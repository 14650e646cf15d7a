"""API keys: `Authorization: Bearer KEY`, or openpi's `Api-Key KEY`, against a file that holds only digests.

The file (LINGBOT_API_KEYS_FILE) is JSON: `[{"name": "robot-1", "sha256": "<hex digest of the key>"}]`. It is read again
when it changes, so that a key is added or revoked without a restart.
"""

import hashlib
import hmac
import json
import re
from pathlib import Path

from components.endpoint.errors import Unauthorized
from model.errors import UserError

KEYS_VARIABLE = "LINGBOT_API_KEYS_FILE"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_HEADER = re.compile(r"(?:bearer|api-key)\s+(\S+)\Z", re.IGNORECASE)


def key_digest(key: str) -> str:
    """What the file holds. A plain hash is enough for keys of 128 random bits or more; it is not for passwords."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys of one file.

    Raises:
        UserError: when the file cannot be read or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._digests: dict[str, str] = {}
        self._refresh()

    def check(self, authorization: str | None) -> str:
        """Name of the key in an Authorization header.

        Raises:
            Unauthorized
        """
        self._refresh()
        match = _HEADER.match((authorization or "").strip())
        if match is None:
            raise Unauthorized("a key is required: send the header 'Authorization: Bearer KEY' or 'Api-Key KEY'")
        digest, found = key_digest(match.group(1)), None
        for name, known in self._digests.items():  # all of them: the time tells nothing about which one matched
            if hmac.compare_digest(digest, known):
                found = name
        if found is None:
            raise Unauthorized("the key is not known to this server")
        return found

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            entries = json.loads(self._path.read_text())
            digests = {entry["name"]: entry["sha256"] for entry in entries}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{KEYS_VARIABLE} {self._path} cannot be read as a list of {{name, sha256}}: {error}"
            ) from error
        if not digests or not all(isinstance(d, str) and _DIGEST.match(d) for d in digests.values()):
            raise UserError(
                f"{KEYS_VARIABLE} {self._path} must hold at least one key, each with its sha256 as 64 hex digits"
            )
        self._digests, self._stamp = digests, stamp
