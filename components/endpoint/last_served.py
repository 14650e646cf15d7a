"""What an endpoint of this machine served last: what it starts on while the registry is away.

`served/<registry, model and alias as a digest>.json` in LINGBOT_HOME, rewritten when the champion changes. It names a
version and the digest of its bundle; the bytes are checked against that, as with every start.
"""

import dataclasses
import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from components import state
from components.adapters import tracking
from components.routing_state import Target
from model.errors import UserError

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LastServed:
    """`registry` is a digest of its address, which may hold a password; `at` is UTC, ISO 8601."""

    schema_version: int = SCHEMA_VERSION
    registry: str
    model: str
    alias: str
    version: str
    uri: str
    digest: str
    at: str

    @property
    def target(self) -> Target:
        return Target(version=self.version, uri=self.uri, digest=self.digest)


def remember(model: str, alias: str, target: Target) -> None:
    """Keeps what an alias' champion is, once it serves.

    Raises:
        OSError: it cannot be written.
    """
    registry = _registry()
    last = LastServed(
        registry=registry,
        model=model,
        alias=alias,
        version=target.version,
        uri=target.uri,
        digest=target.digest,
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    state.make_home()
    name = hashlib.sha256(f"{registry} {model} {alias}".encode()).hexdigest()[:24]
    path = _folder() / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    state.write_json(path, dataclasses.asdict(last))


def recall(model: str, alias: str) -> LastServed | None:
    """What this machine served last of an alias of this registry; None when it served none.

    Args:
        model: empty for the only one that it served.
        alias: that was followed.

    Raises:
        UserError: `model` is empty and it served several; or a record of a newer version of this project.
    """
    found = [
        last
        for last in all_last_served()
        if (last.registry, last.alias) == (_registry(), alias) and model in ("", last.model)
    ]
    if len(found) > 1:
        names = ", ".join(last.model for last in found)
        raise UserError(f"the registry is away and several models were served here: choose one with --model: {names}")
    return found[0] if found else None


def all_last_served() -> list[LastServed]:
    """What this machine served last, of every registry, model and alias.

    Raises:
        UserError: a record is damaged, or of a newer version of this project.
    """
    return [_read(path) for path in sorted(_folder().glob("*.json"))]


def _folder() -> Path:
    return state.home() / "served"


def _registry() -> str:
    return hashlib.sha256(tracking.tracking_uri().encode()).hexdigest()[:12]


def _read(path: Path) -> LastServed:
    try:
        values = json.loads(path.read_bytes())
        version = values["schema_version"]
        if version <= SCHEMA_VERSION:
            return LastServed(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no record of what was served ({error}): delete it") from error
    raise UserError(f"{path} has schema_version {version}, this code reads {SCHEMA_VERSION}: update it")
