"""The ledger: who moved which alias from which version to which, when, and on what evidence.

MLflow's aliases have no history and vanish with their version, so the history is here: one JSON object a line, only
ever added to. Each line holds the sha256 of the line before it, so that a changed, removed or inserted line is seen.
(The chain does not see that its end was cut off: the registry keeps the last line's number and sha256, and
`components.promote.drift` compares.)

With LINGBOT_STORAGE set the lines are objects there, which several machines append to; else the file
`LINGBOT_HOME/ledger.jsonl`. Which versions share an alias's traffic stands here too: a canary and a shadow are entries,
and no aliases.
"""

import dataclasses
import datetime
import functools
import getpass
import hashlib
import json
import os
import random
import socket
import time
from dataclasses import dataclass
from typing import Any

from components import state
from components.ledger_log import FileLog, Log, StoredLog
from model.errors import UserError

SCHEMA_VERSION = 2
"""1 had neither `verdict` nor `share`, and no canary and shadow: read as None."""
FIRST = "0" * 64
PROMOTE, OVERRIDE, ROLLBACK = "promote", "override", "rollback"
CANARY, SHADOW = "canary", "shadow"
MOVES = (PROMOTE, OVERRIDE, ROLLBACK)
_SINCE_2 = ("verdict", "share")
_ATTEMPTS = 50


class Overtaken(UserError):
    """Somebody else wrote about the same alias since the caller looked."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One movement of an alias, or of what shares its traffic.

    Attributes:
        sequence: 1 for the first line.
        time: UTC, ISO 8601.
        who: user@host, and the pipeline run if it was one.
        action: promote (the gate passed), override (it did not, somebody took it upon themselves), rollback; canary,
            shadow.
        source, target: versions before and after; `source` is None when there was none before, `target` when a canary
            or a shadow ends.
        bundle_digest: of the target.
        evidence: sha256 of the evaluation that the gate read; None when there was none.
        verdict: digest of the gate's verdict; None when it was not asked.
        share: of new episodes that go to a canary, 0 to 1.
        reasons: the gate's sentences, or the person's.
        previous: sha256 of the line before.
    """

    schema_version: int = SCHEMA_VERSION
    sequence: int
    time: str
    who: str
    action: str
    model: str
    alias: str
    source: str | None
    target: str | None
    bundle_digest: str | None
    evidence: str | None
    verdict: str | None = None
    share: float | None = None
    reasons: tuple[str, ...]
    previous: str

    @functools.cached_property
    def _line(self) -> bytes:
        left_out = _SINCE_2 if self.schema_version == 1 else ()
        names = (field.name for field in dataclasses.fields(self))
        values = {name: getattr(self, name) for name in names if name not in left_out}
        return state.canonical_json(values) + b"\n"

    def to_line(self) -> bytes:
        return self._line

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of its line: what the next one holds as `previous`."""
        return hashlib.sha256(self.to_line()).hexdigest()


def whoami() -> str:
    """Who acts: user@host, with the run of the pipeline when it is one."""
    from components.liveness import current_run

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    run = current_run()
    return f"{user}@{socket.gethostname()}" + (f" run {run}" if run else "")


class Ledger:
    """The ledger of a log, by default the one that goes with the registry and LINGBOT_STORAGE."""

    def __init__(self, log: Log | None = None) -> None:
        self.log = default_log() if log is None else log

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the chain checked.

        Raises:
            UserError: a line was changed, removed or inserted; says which.
        """
        return _read(self.log)

    def verify(self) -> list[str]:
        """What is wrong with the lines, in one sentence; empty when the chain holds."""
        try:
            self.entries()
        except UserError as error:
            return [str(error)]
        return []

    def append(
        self,
        *,
        action: str,
        model: str,
        alias: str,
        source: str | None,
        target: str | None,
        bundle_digest: str | None,
        evidence: str | None,
        reasons: tuple[str, ...],
        verdict: str | None = None,
        share: float | None = None,
        who: str | None = None,
        seen: int | None = None,
    ) -> Entry:
        """Adds an entry, durable when this returns.

        Args:
            action: with what follows, as in `Entry`.
            seen: number of the last entry of this model and alias that the caller decided on, 0 for none; None when
                it does not matter.

        Raises:
            UserError: the lines so far are damaged: nothing is built on them; or others write without a pause.
            Overtaken: there is a later entry of this alias than `seen`.
        """
        assert action in (*MOVES, CANARY, SHADOW), action
        for attempt in range(_ATTEMPTS):
            time.sleep(random.uniform(0, 0.02 * attempt))
            entries = self.entries()
            last = next((e.sequence for e in reversed(entries) if (e.model, e.alias) == (model, alias)), 0)
            if seen is not None and last != seen:
                now = f"{entries[last - 1].action} by {entries[last - 1].who}" if last else "its entries are gone"
                raise Overtaken(
                    f"'{alias}' of {model} was written about at the same time ({now}): look at "
                    f"`lingbot models history` and say again what is to be done"
                )
            entry = Entry(
                sequence=len(entries) + 1,
                time=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
                who=who or whoami(),
                action=action,
                model=model,
                alias=alias,
                source=source,
                target=target,
                bundle_digest=bundle_digest,
                evidence=evidence,
                verdict=verdict,
                share=share,
                reasons=reasons,
                previous=entries[-1].digest if entries else FIRST,
            )
            if self.log.append(entry.sequence, entry.to_line()):
                return entry
        raise UserError(
            f"the ledger {self.log.where} took no entry in {_ATTEMPTS} attempts, each time there was a later one: see "
            f"who writes to it, then try again"
        )

    def history(self, model: str | None = None, alias: str | None = None) -> tuple[Entry, ...]:
        """The entries of a model and an alias, oldest first."""
        return tuple(
            entry
            for entry in self.entries()
            if (model is None or entry.model == model) and (alias is None or entry.alias == alias)
        )

    def moves(self, model: str, alias: str) -> tuple[Entry, ...]:
        """The movements of an alias, oldest first: its history without canaries and shadows."""
        return tuple(entry for entry in self.history(model, alias) if entry.action in MOVES)

    def standing(self, model: str, alias: str) -> tuple[str, ...]:
        """The versions that a rollback can go through, the present one last.

        A rollback takes back what came after its target, so that two of them go two versions back.
        """
        stack: list[str] = []
        for entry in self.moves(model, alias):
            assert entry.target is not None, "an alias moves to a version"
            if entry.action == ROLLBACK and entry.target in stack:
                last = len(stack) - 1 - stack[::-1].index(entry.target)
                del stack[last + 1 :]
            elif not stack or stack[-1] != entry.target:
                stack.append(entry.target)
        return tuple(stack)


def default_log() -> Log:
    """The log beside the registry of this process: in LINGBOT_STORAGE when that is set, else in LINGBOT_HOME."""
    earlier = FileLog(state.home() / "ledger.jsonl")
    url = os.environ.get("LINGBOT_STORAGE")
    if not url:
        return earlier
    from components.adapters.storage import Storage
    from components.adapters.tracking import registry_id

    return StoredLog(Storage.from_url(url), registry_id(), earlier)


def _read(log: Log) -> tuple[Entry, ...]:
    previous, entries = FIRST, []
    for number, line in enumerate(log.lines(), start=1):
        entry = _parse(log.name(number), line)
        if entry.previous != previous or entry.sequence != number or entry.to_line() != line:
            raise UserError(
                f"{log.name(number)} does not continue the line before it: the ledger was changed; "
                f"restore it from a copy, or move it away to begin a new one"
            )
        entries.append(entry)
        previous = entry.digest
    return tuple(entries)


def _parse(name: str, line: bytes) -> Entry:
    try:
        return _entry(line)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise UserError(f"{name} {error}") from error
        raise UserError(
            f"{name} is not an entry of the ledger (cut off, or changed): restore it from a copy"
        ) from error


@functools.lru_cache(maxsize=10_000)
def _entry(line: bytes) -> Entry:
    """The entry of a line. A server that polls reads the same lines again and again."""
    values: dict[str, Any] = json.loads(line)
    version = values["schema_version"]
    if version > SCHEMA_VERSION:
        raise UserError(f"has schema version {version}: a newer version of this project wrote it")
    values["reasons"] = tuple(values["reasons"])
    if version > 1 and not values.keys() >= set(_SINCE_2):
        raise KeyError("verdict")
    return Entry(**values)
