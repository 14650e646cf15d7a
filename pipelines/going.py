"""Runs of this machine that go on, or have stopped: watched, ended and taken up again from another terminal."""

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from components.liveness import ask_to_stop, is_alive
from model.errors import UserError
from pipelines.history import read_run
from pipelines.live import StepState, open_view
from pipelines.parameters import recorded_parameters
from pipelines.profile import Profile
from pipelines.run import LocalRun
from pipelines.summary import summary_lines

_POLL_SECONDS = 0.25
_STOP_SECONDS = 60.0
_pause = time.sleep
_CODES = {"done": 0, "stopped": 130}


def watch(run_id: str, stream: TextIO | None = None) -> int:
    """Shows a run until it has ended; returns the exit code that its own command has."""
    stream = stream or sys.stdout
    run = read_run(run_id)
    states = [StepState(step["name"]) for step in run["steps"]]
    with open_view(stream) as view:
        going = True
        while going:
            going = is_alive(run["id"])  # read once more after the end
            view.show(states, [(step, event) for step in states for event in step.read(run["id"])])
            if going:
                _pause(_POLL_SECONDS)
    run = read_run(run["id"])
    for line in summary_lines(run) if run["status"] == "done" else _why(run):
        print(line, file=stream)
    return 2 if (run["error"] or {}).get("user") else _CODES.get(run["status"], 1)


def _why(run: Mapping[str, Any]) -> list[str]:
    error = run["error"]
    said = f": error in {error['step'] or 'the run'}: {error['message']}" if error else ""
    return [f"{run['status']}{said}"]


def cancel(run_id: str) -> None:
    """Ends a run as Ctrl-C in its terminal does, and waits until it has.

    Raises:
        UserError: it does not go on.
    """
    run = read_run(run_id)
    if not ask_to_stop(run["id"]):
        status = read_run(run["id"])["status"]  # by now: it may have ended in this moment
        raise UserError(f"run {run['id']} is {status}: there is nothing to cancel")
    end = time.monotonic() + _STOP_SECONDS
    while is_alive(run["id"]):
        if time.monotonic() > end:
            raise UserError(f"run {run['id']} was told to stop {_STOP_SECONDS:.0f} s ago and goes on: look at its log")
        _pause(_POLL_SECONDS)
    print(
        f"run {run['id']} has stopped. What is finished is kept: `lingbot runs retry {run['id']}` goes on from there."
    )


def retry(run_id: str) -> int:
    """Runs it again with the same parameters: what is finished is reused, training goes on from its checkpoint.

    Raises:
        UserError: it goes on, or is done.
    """
    run = read_run(run_id)
    if run["status"] in ("running", "done"):
        rule = "goes on: watch it" if run["status"] == "running" else "is done: `lingbot run` makes another"
        raise UserError(f"run {run['id']} {rule}")
    parameters = recorded_parameters(run["provenance"]["parameters"])
    return LocalRun(run["pipeline"], parameters, Profile.from_json(run["profile"]), run["provenance"]["data"]).execute()
