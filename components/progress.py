"""Progress of a step: lines of JSON in the run's folder, or plain lines in the log where there is no run folder.

A line is one event, with `time` in seconds since the epoch:
    {"time", "event": "start", "fingerprint", "pid"}
    {"time", "event": "progress", "done", "total", "figures": {name: number}}
    {"time", "event": "message", "text"}
    {"time", "event": "end", "status": "done" | "cached" | "failed", "seconds", "cpu_seconds", "gpus"}
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from components import state
from model.progress import Progress

# More often than a person's eye is no use; a step may call `update` thousands of times a second.
WRITE_EVERY_SECONDS = 0.5
LOG_EVERY_SECONDS = 15.0


class StepProgress(Progress):
    """What the harness and the step write to. `event` marks the start and the end of the step."""

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._last = float("-inf")
        self._pending: dict[str, Any] | None = None

    def update(self, done: int, total: int, **figures: float) -> None:
        values = {name: float(value) for name, value in figures.items()}
        self._pending = {"event": "progress", "done": int(done), "total": int(total), "figures": values}
        if time.monotonic() - self._last >= self._every_seconds:
            self._flush()

    def message(self, text: str) -> None:
        self.event("message", text=text)

    def event(self, name: str, **values: Any) -> None:
        self._flush()
        self._write({"event": name, **values})

    def _flush(self) -> None:
        if self._pending is not None:
            self._write(self._pending)
            self._pending, self._last = None, time.monotonic()

    def _write(self, event: Mapping[str, Any]) -> None:
        raise NotImplementedError


class FileProgress(StepProgress):
    """Appends to `runs/<id>/progress/<step>.jsonl`, which the live view reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(WRITE_EVERY_SECONDS)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def _write(self, event: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **event}, allow_nan=True) + "\n")


class LogProgress(StepProgress):
    """Prints a line every 15 s: what a pod's log shows, and `lingbot step` outside of a run."""

    def __init__(self, step: str, stream: TextIO | None = None) -> None:
        super().__init__(LOG_EVERY_SECONDS)
        self._step = step
        self._stream = stream or sys.stdout

    def _write(self, event: Mapping[str, Any]) -> None:
        print(f"{self._step}: {describe(event)}", file=self._stream, flush=True)


def open_progress(step: str, run_id: str | None) -> StepProgress:
    if run_id is None:
        return LogProgress(step)
    return FileProgress(progress_path(run_id, step))


def progress_path(run_id: str, step: str) -> Path:
    return state.run_folder(run_id) / "progress" / f"{step}.jsonl"


def describe(event: Mapping[str, Any]) -> str:
    """An event as a few words for a person."""
    match event["event"]:
        case "progress":
            figures = "  ".join(
                f"{name.replace('_', ' ')} {_number(value)}" for name, value in event["figures"].items()
            )
            return f"{event['done']}/{event['total']}" + (f"  {figures}" if figures else "")
        case "message":
            return str(event["text"])
        case "end":
            return f"{event['status']} after {event['seconds']:.1f} s"
        case name:
            return str(name)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def read_progress(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events after a byte offset, and the offset after them. A line still being written is left for next time."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content.rfind(b"\n") + 1
    return [json.loads(line) for line in content[:whole].splitlines()], offset + whole
