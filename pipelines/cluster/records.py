"""What is kept here of the runs that were started on a cluster from here: `runs/<id>/cluster.json`.

The id is one of this machine, made before anything is submitted; Kubeflow's own is in the record when it is known.
"""

import sys
from typing import Any

from components import run_records, state
from components.run_records import NONE, NUMBER, OBJECT, TEXT
from model.errors import UserError

Object = dict[str, Any]

FILE = "cluster.json"
SCHEMA_VERSION = 2  # 1 had neither prices nor jobs: they were read when a run had ended
_SHAPE: run_records.Shape = {
    "id": TEXT,
    "run": TEXT,
    "link": TEXT,
    "pipeline": TEXT,
    "preset": TEXT,
    "status": TEXT,
    "started": NUMBER,
    "seconds": (*NUMBER, *NONE),
    "profile": OBJECT,
}
_SHORTEST = 6  # characters of Kubeflow's id that name a run
# Of a run as Kubeflow calls it -> as runs here are called.
STATUS = {
    "PENDING": "running",
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "CANCELED": "stopped",
    "SKIPPED": "done",
}


def save(record: Object) -> None:
    state.write_json(state.run_folder(record["id"]) / FILE, record)


def known() -> list[str]:
    """The ids of the records here, oldest first."""
    return run_records.known(FILE)


def read(run_id: str) -> Object:
    """
    Raises:
        UserError: a newer version wrote it, or it cannot be read.
    """
    return run_records.read(run_id, FILE, _SHAPE, SCHEMA_VERSION)


def find(reference: str) -> Object | None:
    """The record of an id of here or of Kubeflow, or of the beginning of one; None when there is none.

    Raises:
        UserError: several begin so, or the record of that id cannot be read.
    """
    ids = known()
    if reference in ids:
        return read(reference)
    if len(reference) < _SHORTEST:
        return None
    found = [record for record in map(_readable, ids) if record and (record["run"] or "").startswith(reference)]
    if len(found) > 1:
        raise UserError(f"'{reference}' is the beginning of {len(found)} runs: give more of it")
    return found[0] if found else None


def _readable(run_id: str) -> Object | None:
    """A record, where it can be read: one that cannot must not hide the others."""
    try:
        return read(run_id)
    except UserError as error:
        print(error, file=sys.stderr)
        return None


def is_kubeflows(reference: str) -> bool:
    """Whether a name of a run looks like one that Kubeflow gave: a UUID."""
    return len(reference) == 36 and reference.count("-") == 4
