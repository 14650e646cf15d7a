"""The ledger: who moved which alias from which version to which, when, and on what evidence.

MLflow's aliases have no history and vanish with their version, so the history is here: `LINGBOT_HOME/ledger.jsonl`, one
JSON object a line, only ever appended to. Each line holds the sha256 of the line before it, so that a changed, removed
or inserted line is seen. (A cut-off end is not seen by the chain; `components.promote.moves.check` compares the last
lines with the aliases.)

Which versions share an alias's traffic stands here too: a canary and a shadow are entries, and no aliases.
"""

import dataclasses
import datetime
import fcntl
import getpass
import hashlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import state
from model.errors import UserError

SCHEMA_VERSION = 2
"""1 had neither `verdict` nor `share`, and no canary and shadow: read as None."""
FIRST = "0" * 64
PROMOTE, OVERRIDE, ROLLBACK = "promote", "override", "rollback"
CANARY, SHADOW = "canary", "shadow"
MOVES = (PROMOTE, OVERRIDE, ROLLBACK)
_SINCE_2: dict[str, Any] = {"verdict": None, "share": None}


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

    def to_line(self) -> bytes:
        values = dataclasses.asdict(self)
        if self.schema_version == 1:
            values = {name: value for name, value in values.items() if name not in _SINCE_2}
        return state.canonical_json(values) + b"\n"


def ledger_path() -> Path:
    return state.home() / "ledger.jsonl"


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
    """The ledger at a path, by default that of LINGBOT_HOME."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or ledger_path()

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the chain checked.

        Raises:
            UserError: a line was changed, removed or inserted; says which.
        """
        return _read(self.path, self.path.read_bytes() if self.path.exists() else b"")

    def verify(self) -> list[str]:
        """What is wrong with the file, in one sentence; empty when the chain holds."""
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
    ) -> Entry:
        """Adds an entry, on disk when this returns.

        Raises:
            UserError: the file so far is damaged: nothing is built on it.
        """
        assert action in (*MOVES, CANARY, SHADOW), action
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            entries = _read(self.path, content)
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
                previous=_hash(entries[-1].to_line()) if entries else FIRST,
            )
            file.write(entry.to_line())
            file.flush()
            os.fsync(file.fileno())
        return entry

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


def _read(path: Path, content: bytes) -> tuple[Entry, ...]:
    previous, entries = FIRST, []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        entry = _parse(path, number, line)
        if entry.previous != previous or entry.sequence != number or entry.to_line() != line:
            raise UserError(
                f"{path} line {number} does not continue the line before it: the ledger was changed; "
                f"restore it from a copy, or move it away to begin a new one"
            )
        entries.append(entry)
        previous = _hash(line)
    return tuple(entries)


def _parse(path: Path, number: int, line: bytes) -> Entry:
    try:
        values: dict[str, Any] = json.loads(line)
        version = values["schema_version"]
        if version > SCHEMA_VERSION:
            raise UserError(
                f"{path} line {number} has schema version {version}: a newer version of this project wrote it"
            )
        values["reasons"] = tuple(values["reasons"])
        if version > 1 and not _SINCE_2.keys() <= values.keys():
            raise KeyError("verdict")
        return Entry(**values)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} line {number} is not an entry of the ledger (cut off, or changed): restore it from a copy"
        ) from error


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
