"""The runs on this machine: their records, newest first."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

from components import run_records, state
from components.liveness import is_alive
from components.run_records import LIST, NONE, NUMBER, OBJECT, RUN, TEXT
from model.errors import UserError, unknown_name
from pipelines.cluster import records as cluster_records
from pipelines.live import StepState, duration, print_table
from pipelines.summary import summary_lines

_SHAPE: run_records.Shape = {
    "id": TEXT,
    "pipeline": TEXT,
    "preset": TEXT,
    "status": TEXT,
    "started": NUMBER,
    "seconds": (*NUMBER, *NONE),
    "profile": OBJECT,
    "provenance.code": OBJECT,
    "provenance.command": LIST,
    "steps": LIST,
    "error": (*OBJECT, *NONE),
}


def read_runs(say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """All records, newest first. A run whose process is gone without a word is `killed`; `say` is told of a record that
    cannot be read: one broken file must not end what is done with the others."""
    for run_id in reversed(known_runs()):
        try:
            yield read_run(run_id)
        except UserError as error:
            say(str(error))


def known_runs() -> list[str]:
    """The ids of the runs whose records are here, oldest first."""
    return run_records.known(RUN)


def read_run(run_id: str) -> dict[str, Any]:
    """The record of one run; `last` is the newest.

    Raises:
        UserError: there is no such run, or its record cannot be read.
    """
    known = known_runs()
    if run_id == "last" and known:
        run_id = known[-1]
    if run_id not in known:
        raise _unknown(run_id, known)
    run = run_records.read(run_id, RUN, _SHAPE)
    if run["status"] == "running" and not is_alive(run_id):
        run = run_records.read(run_id, RUN, _SHAPE)  # it may have ended between the two looks
        if run["status"] == "running":
            run["status"] = "killed"
    for entry in run["steps"]:
        entry.setdefault("step", entry["name"])  # before there were studies, a task was called as its step
    return run


def _unknown(run_id: str, here: list[str]) -> UserError:
    elsewhere = cluster_records.known()
    if not here and not elsewhere:
        return UserError(f"nothing has run yet below {state.home()}: start with `lingbot run`")
    if run_id in elsewhere or run_id == "last":
        run_id = elsewhere[-1] if run_id == "last" else run_id
        return UserError(
            f"run {run_id} is on a cluster, where `lingbot runs` alone reads it: give a run of this machine"
        )
    return unknown_name("run", run_id, sorted([*here, *elsewhere])[-20:])


def print_list(limit: int, as_json: bool) -> None:
    """The runs of this machine: those that ran here, and those that were started on a cluster from here.

    No cluster is asked: of a run that nobody followed to its end from here, what it was last seen as is shown as such.
    """
    local, clusters, unseen = known_runs(), cluster_records.known(), False
    if not local and not clusters and not as_json:
        print(f"nothing has run yet below {state.home()}: start with `lingbot run`")
    for run_id in sorted([*local, *clusters], reverse=True)[:limit]:
        try:
            run = read_run(run_id) if run_id in local else cluster_records.read(run_id)
        except UserError as error:
            print(json.dumps({"id": run_id, "status": "unreadable"}) if as_json else f"{run_id}  unreadable: {error}")
            continue
        if as_json:
            print(json.dumps(run))
            continue
        if run_id in local:
            done = sum(step["status"] in ("done", "cached") for step in run["steps"])
            steps = f"{done}/{len(run['steps'])} steps"
            rest = "  dirty" if run["provenance"]["code"]["dirty"] else ""
        else:
            steps, rest = "on cluster", f"  {run['run'] or 'not known to be submitted'}"
            if run["status"] == "running":
                run["status"], unseen = "running?", True
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["started"]))
        print(
            f"{run['id']}  {started}  {run['status']:10}  {steps:>11}  {duration(run['seconds']):>12}  "
            f"{run['preset']:6}  {run['pipeline']}{rest}"
        )
    if unseen:
        print("running? was not followed to its end from here: `lingbot runs show RUN` asks its cluster")


def print_run(run_id: str, as_json: bool) -> None:
    run = read_run(run_id)
    if as_json:
        print(json.dumps(run, indent=1))
        return
    print(f"run {run['id']}: {run['status']}, {shlex.join(run['provenance']['command'])}")
    states = [
        StepState(step["name"], status=step["status"], seconds=step.get("seconds"), doing=step.get("why", ""))
        for step in run["steps"]
    ]
    for step in states:
        step.read(run["id"])
    print_table(states, run["seconds"])
    if run["error"]:
        print(f"error in {run['error']['step'] or 'the run'}: {run['error']['message']}")
    for line in summary_lines(run):
        print(line)
