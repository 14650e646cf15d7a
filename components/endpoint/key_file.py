"""Adding and revoking keys: the file is replaced as a whole, so that a server never reads half of one."""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from components import state
from components.endpoint.keys import INFER, Key, key_digest, read_keys
from components.endpoint.options import KEYS_VARIABLE
from model.errors import UserError, unknown_name

KEY_PREFIX = "lbk_"  # so that scanners for leaked secrets can tell one
_KEY_BYTES = 32


def default_path() -> Path:
    """The file that LINGBOT_API_KEYS_FILE names, or one in the state folder."""
    given = os.environ.get(KEYS_VARIABLE)
    return Path(given).expanduser() if given else state.home() / "api-keys.json"


def list_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file; none when there is no file yet."""
    return read_keys(path) if path.exists() else ()


def add_key(path: Path, name: str, scopes: Sequence[str] = (INFER,)) -> str:
    """Makes a key and writes its digest; returns the key, which is shown nowhere again.

    Raises:
        UserError: the name is taken or is none, a scope is unknown, or the file cannot be read or written.
    """
    secret = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    key = Key(name=name, sha256=key_digest(secret), scopes=tuple(dict.fromkeys(scopes)), created=created)
    with _locked(path):
        keys = list_keys(path)
        if any(known.name == name for known in keys):
            raise UserError(
                f"{path} has a key named '{name}' already: choose another name, and revoke the old one when the "
                f"robot uses the new one"
            )
        _write(path, [*keys, key])
    return secret


def revoke_key(path: Path, name: str) -> Key:
    """Takes a key out; a running server refuses it and ends its connections.

    Raises:
        UserError: no such key.
    """
    with _locked(path):
        keys = list_keys(path)
        found = next((key for key in keys if key.name == name), None)
        if found is None:
            raise unknown_name("key", name, [key.name for key in keys]) if keys else UserError(f"{path} holds no key")
        _write(path, [key for key in keys if key is not found])
    return found


def _let_in_as(path: Path, descriptor: int) -> None:
    """Mode and owner of the file that is replaced: a server of another user may be let in by them, and must go on
    reading. What is so already is not asked for: not every file system knows of it."""
    kept, new = path.stat(), os.fstat(descriptor)
    if stat.S_IMODE(kept.st_mode) != stat.S_IMODE(new.st_mode):
        os.fchmod(descriptor, stat.S_IMODE(kept.st_mode))
    if (kept.st_uid, kept.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, kept.st_uid, kept.st_gid)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands at once do not lose one of two keys."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; give another --file") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, keys: Sequence[Key]) -> None:
    text = json.dumps([key.to_json() for key in keys], indent=2) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                _let_in_as(path, file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise UserError(f"{path} cannot be written: {error.strerror}; give another --file") from error
