"""Reports of replays, kept by digest; a version's tag names the last one, which the gate reads.

replays/<sha256>.json          in LINGBOT_STORAGE if set, else LINGBOT_HOME
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from components import kept, state
from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from model.errors import UserError

TAG = "replay_digest"


def keep_replay(version: ModelVersion, report: Mapping[str, Any]) -> str:
    """Stores the report of a replay through a registered version, and names it there. Returns its digest."""
    assert report["candidate"]["bundle_digest"] == version.digest, "the report of another version"
    content = state.canonical_json(report)
    digest = hashlib.sha256(content).hexdigest()
    kept.keep(_key(digest), content)
    tracking.tag_version(version, {TAG: digest})
    return digest


def replay_of(version: ModelVersion) -> bytes | None:
    """The last report of a version; None when nothing was replayed through it.

    Raises:
        UserError: it is gone, or was changed after it was stored.
    """
    digest = version.tags.get(TAG)
    if digest is None:
        return None
    path, content = state.home() / _key(digest), kept.find(_key(digest))
    if content is None:
        raise UserError(f"the replay {digest[:12]} of {version.model} version {version.version} is gone: replay again")
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"the replay {path} was changed after it was stored: replay again")
    return content


def _key(digest: str) -> str:
    return f"replays/{digest}.json"
