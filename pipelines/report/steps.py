"""The steps of a run as the report reads them: their entries, and the files of those that finished."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Steps:
    """Entries of `run["steps"]` by name, and the files below each one's folder."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entries = {entry["name"]: entry for entry in entries}

    def summary(self, step: str) -> Mapping[str, Any]:
        """What a finished step said of its artefact; empty when it did not finish in this run."""
        return self._entries.get(step, {}).get("summary") or {}

    def file(self, step: str, path: str) -> Path | None:
        """A file or folder of a step's artefact; None when the step did not finish or wrote none."""
        folder = self._entries.get(step, {}).get("folder")
        found = Path(folder) / path if folder else None
        return found if found is not None and found.exists() else None

    def json(self, step: str, path: str) -> Any:
        """A JSON file of a step, or None when there is none."""
        file = self.file(step, path)
        return json.loads(file.read_text(encoding="utf-8")) if file else None

    def lines(self, step: str, path: str) -> list[dict[str, Any]]:
        """A JSON-lines file of a step; empty when there is none."""
        file = self.file(step, path)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file else []

    def source(self) -> str:
        """The step that the data came from."""
        return "ingest" if "ingest" in self._entries else "collect"
