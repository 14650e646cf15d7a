"""Small files that are kept under a key, most of them by digest: in LINGBOT_STORAGE if set, else LINGBOT_HOME.

Evaluations, trials, verdicts, replays and records of provenance are kept so. What a key's bytes must be is checked by
who knows their digest.
"""

from components import state
from components.records import open_storage


def keep(key: str, content: bytes) -> None:
    """Stores `content`; the bytes of a key never change, so storage that has it is left alone."""
    storage = open_storage()
    if storage is not None:
        storage.write_bytes(key, content, if_absent=True)
    else:
        state.write_atomically(state.home() / key, content)


def find(key: str) -> bytes | None:
    """The bytes of a key, from this machine or from storage; None when neither has it."""
    path, storage = state.home() / key, open_storage()
    if path.exists():
        return path.read_bytes()
    if storage is not None and storage.exists(key):
        return storage.read_bytes(key)
    return None
