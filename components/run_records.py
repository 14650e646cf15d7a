"""The records of runs, `runs/<id>/<file>`: one reader for all of them, which looks at their shape.

A disk that was full, or a person with an editor, leaves records that are none: one sentence names the file, so that
whoever lists the runs can go on with the others.
"""

import json
from collections.abc import Mapping
from typing import Any

from components import state
from model.errors import UserError

RUN = "run.json"  # of a run on this machine
Shape = Mapping[str, tuple[type, ...]]
TEXT, NUMBER, OBJECT, LIST, NONE = (str,), (int, float), (dict,), (list,), (type(None),)


def known(file: str) -> list[str]:
    """The ids of the runs that have such a record, oldest first."""
    return sorted(path.parent.name for path in state.runs_folder().glob(f"*/{file}"))


def read(run_id: str, file: str, shape: Shape, newest: int = 1) -> dict[str, Any]:
    """A run's record.

    Args:
        run_id: of the run.
        file: the record's name.
        shape: key -> the types of its value; "a.b" is the key b of the object a. Of `steps`, each is looked at.
        newest: schema version that this code reads.

    Raises:
        UserError: it cannot be read, has another shape, or a newer version wrote it.
    """
    path = state.run_folder(run_id) / file
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fault = _fault(record, {"schema_version": (int,), **shape})
    except (OSError, ValueError) as error:
        fault = str(error)
    if fault:
        raise UserError(
            f"{path} cannot be read as the record of a run ({fault}): restore it from a copy, or remove its folder"
        )
    if record["schema_version"] > newest:
        raise UserError(f"{path} has schema version {record['schema_version']}: use the newer version that wrote it")
    return dict(record)


def _fault(record: Any, shape: Shape) -> str:
    """What is wrong with it; "" for nothing."""
    for key, kinds in {"": OBJECT, **shape}.items():
        value: Any = record
        for name in key.split(".") if key else ():
            if not isinstance(value, dict) or name not in value:
                return f"it has no '{key}'"
            value = value[name]
        if not isinstance(value, kinds):
            kind = "null" if value is None else f"a {type(value).__name__}"
            return f"{repr(key) if key else 'it'} is {kind}"
    steps = record["steps"] if "steps" in shape else []
    for number, step in enumerate(steps):
        if not isinstance(step, dict) or not {"name", "status"} <= step.keys():
            return f"step {number + 1} has no 'name' or no 'status'"
    return ""
