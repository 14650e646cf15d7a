"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere.

Both read what the steps write to `runs/<id>/progress/<step>.jsonl`, so they also show a run that another process does.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from components.progress import describe, progress_path, read_progress

PLAIN_EVERY_SECONDS = 15.0


@dataclasses.dataclass
class StepState:
    """What is known of one step of a run. `seconds` is its time in this run; None: it has not started."""

    name: str
    status: str = "waiting"  # waiting, running, done, cached, failed, stopped
    started: float | None = None
    seconds: float | None = None
    doing: str = ""
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    fingerprint: str | None = None
    offset: int = 0

    def elapsed(self) -> float | None:
        if self.seconds is not None or self.started is None:
            return self.seconds
        return max(0.0, time.time() - self.started)

    def read(self, run_id: str) -> list[dict[str, Any]]:
        """Takes in what the step wrote since last time; returns those events."""
        events, self.offset = read_progress(progress_path(run_id, self.name), self.offset)
        for event in events:
            match event["event"]:
                case "start":
                    self.status, self.started, self.seconds = "running", event["time"], None
                    self.fingerprint = event["fingerprint"]
                case "end":
                    self.status, self.seconds = event["status"], event["seconds"]
                case "progress":
                    self.doing, self.figures = describe(event), event["figures"]
                case _:
                    self.doing = describe(event)
        return events


class View(Protocol):
    """Shows the states of the steps, again and again."""

    def __enter__(self) -> "View": ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, states: Sequence[StepState], events: Sequence[tuple[StepState, dict[str, Any]]]) -> None: ...


def open_view(stream: TextIO | None = None) -> View:
    stream = stream or sys.stdout
    return TableView(stream) if stream.isatty() else PlainView(stream)


class PlainView:
    """A line when a step starts or ends, and one every 15 s with what it is doing."""

    def __init__(self, stream: TextIO, every_seconds: float = PLAIN_EVERY_SECONDS) -> None:
        self._stream = stream
        self._every_seconds = every_seconds
        self._last = time.monotonic()

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, states: Sequence[StepState], events: Sequence[tuple[StepState, dict[str, Any]]]) -> None:
        for step, event in events:
            if event["event"] == "start":
                self._line(f"{step.name}: started")
            elif event["event"] == "end":
                self._line(f"{step.name}: {step.status} ({duration(event['seconds'])}){_last_figures(step)}")
        if time.monotonic() - self._last >= self._every_seconds:
            for step in states:
                if step.status == "running":
                    self._line(f"{step.name}: {duration(step.elapsed())}  {step.doing}")

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
        self._last = time.monotonic()


def _last_figures(step: StepState) -> str:
    return f"  {step.doing}" if step.status == "done" and step.figures else ""


class TableView:
    """A table that is drawn again in place."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._started = time.monotonic()
        self._live = Live(console=Console(file=stream), auto_refresh=False)

    def __enter__(self) -> "TableView":
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def show(self, states: Sequence[StepState], events: Sequence[tuple[StepState, dict[str, Any]]]) -> None:
        self._live.update(render(folded(states), time.monotonic() - self._started), refresh=True)


def folded(states: Sequence[StepState]) -> list[StepState]:
    """The states with one row for all executions of a step that a study has several of, and those that run below it."""
    rows: list[StepState] = []
    several: dict[str, list[StepState]] = {}
    for state in states:
        step, _, label = state.name.partition("@")
        if not label:
            rows.append(state)
        elif step in several:
            several[step].append(state)
        else:
            several[step] = [state]
            rows.append(StepState(step))
    shown: list[StepState] = []
    for row in rows:
        members = several.get(row.name, [])
        if members:
            done = sum(member.status in ("done", "cached") for member in members)
            running = [member for member in members if member.status in ("running", "failed")]
            row.status = "done" if done == len(members) else "running" if done or running else "waiting"
            row.doing = f"{done} of {len(members)}"
            row.seconds = sum(member.elapsed() or 0.0 for member in members) if row.status != "waiting" else None
            members = running
        shown += [row, *members]
    return shown


_STYLES = {
    "waiting": "dim",
    "running": "bold yellow",
    "done": "green",
    "cached": "cyan",
    "failed": "bold red",
    "stopped": "red",
}


def render(states: Sequence[StepState], elapsed: float) -> Any:
    """The table of a run, for rich."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=f"{duration(elapsed)} elapsed", title_justify="left")
    for heading, justify in (("step", "left"), ("status", "left"), ("time", "right")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("doing", ratio=1, no_wrap=True, overflow="ellipsis")
    for step in states:
        style = _STYLES[step.status]
        time_text = "" if step.elapsed() is None else duration(step.elapsed())
        table.add_row(Text(step.name, style), Text(step.status, style), time_text, Text(step.doing))
    return table


def print_table(states: Sequence[StepState], elapsed: float | None) -> None:
    from rich.console import Console

    Console().print(render(states, elapsed or 0.0))


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: 0.4 s, 12 s, 3 min 05 s, 1 h 02 min."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
