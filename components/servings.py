"""Which endpoint serves what: each keeps a small record, so that the registry can be compared with what robots get.

`endpoints/<registry>/<name>.json` in LINGBOT_STORAGE (LINGBOT_HOME without one), rewritten when what is served changes
and while it goes on. A record that has not been renewed for `GONE_AFTER_SECONDS` is of an endpoint that is gone.
"""

import dataclasses
import datetime
import json
import re
from dataclasses import dataclass

from components import state
from components.adapters import tracking
from components.adapters.storage import FolderStorage, Storage
from components.records import open_storage
from model.errors import UserError

SCHEMA_VERSION = 1
RENEW_SECONDS = 60.0
GONE_AFTER_SECONDS = 180.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What one endpoint serves.

    Attributes:
        endpoint: a name that tells its process from others, host and port for instance.
        model, alias: what it follows.
        version, digest: that answers.
        since: when it began to; UTC, ISO 8601.
        canary, shadow: versions beside it.
        seen: when the record was written; filled in by `report_serving`.
    """

    schema_version: int = SCHEMA_VERSION
    endpoint: str
    model: str
    alias: str
    version: str
    digest: str
    since: str
    canary: str | None = None
    shadow: str | None = None
    seen: str = ""


def report_serving(serving: Serving) -> None:
    """Writes an endpoint's record; to be called when what it serves changes, and every `RENEW_SECONDS`.

    Raises:
        UserError: the registry or the storage is away. The endpoint serves on.
    """
    if not _NAME.match(serving.endpoint):
        raise UserError(f"endpoint name '{serving.endpoint}' must hold letters, digits, dots, dashes and underscores")
    now = dataclasses.replace(serving, seen=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    _place().write_bytes(_key(serving.endpoint), state.canonical_json(dataclasses.asdict(now)) + b"\n")


def servings(model: str, *, now: datetime.datetime | None = None) -> tuple[Serving, ...]:
    """The endpoints that serve a model at present, by name.

    Raises:
        UserError: the registry or the storage is away.
    """
    place, found = _place(), []
    for file in place.list(_folder()):
        values = json.loads(place.read_bytes(file.key))
        if values["schema_version"] > SCHEMA_VERSION:
            raise UserError(f"{place.locate(file.key)} was written by a newer version of this project: use that one")
        serving = Serving(**values)
        age = (now or datetime.datetime.now(datetime.UTC)) - datetime.datetime.fromisoformat(serving.seen)
        if serving.model == model and age.total_seconds() < GONE_AFTER_SECONDS:
            found.append(serving)
    return tuple(found)


def _place() -> Storage:
    return open_storage() or FolderStorage(state.home())


def _folder() -> str:
    return f"endpoints/{tracking.registry_id()}"


def _key(endpoint: str) -> str:
    return f"{_folder()}/{endpoint}.json"
