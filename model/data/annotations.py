"""The annotations table: one row a segment of an episode, with its atomic action, its texts, and who saw to them.

Schema 2. Schema 1 had no `verb`, `objects`, confidence of each end, `reviewer`, `reviewed_at` and `reason`; its reader
fills them: nobody reviewed, both ends as sure as the segment, the verb is the atomic action.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.data.arrow import read_table
from model.errors import UserError

ANNOTATIONS = "annotations.parquet"
SCHEMA_VERSION = 2
# review states: accepted rows are a person's and never overwritten; failed ones have no text of the writer asked for
UNREVIEWED, ACCEPTED, FAILED = "unreviewed", "accepted", "failed"
# column -> Arrow type, in the order of the file; `end` is exclusive, both in frames of the dataset
COLUMNS = {
    "episode": "int64",
    "start": "int64",
    "end": "int64",
    "atomic_action": "string",
    "arm": "string",
    "task": "string",
    "sub_task": "string",
    "verb": "string",
    "objects": "string",  # of the sub-task, joined by ", "
    "source": "string",  # `template`, or the name of the model that wrote the texts, or the person's
    "confidence": "float",  # the lower of the two ends'
    "start_confidence": "float",
    "end_confidence": "float",
    "review_state": "string",
    "reviewer": "string",
    "reviewed_at": "string",  # ISO 8601, UTC
    "reason": "string",  # why `failed`
}
DEFAULTS = {"verb": "", "objects": "", "review_state": UNREVIEWED, "reviewer": "", "reviewed_at": "", "reason": ""}
SINCE_2 = ("verb", "objects", "start_confidence", "end_confidence", "reviewer", "reviewed_at", "reason")
VERSION_KEY = b"lingbot_schema_version"


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with every column: the defaults where it says nothing."""
    confidences = dict.fromkeys(("start_confidence", "end_confidence"), row["confidence"])
    return {**DEFAULTS, "verb": row["atomic_action"], **confidences, **row}


def write_annotations(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = ANNOTATIONS) -> None:
    """Write annotations.parquet, sorted by episode and start; equal rows give equal bytes.

    The file appears whole or not at all, so that a reader or a crash never meets half of one. A row may leave out the
    columns of `DEFAULTS` and the confidences of its ends.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted((complete(row) for row in rows), key=lambda row: (row["episode"], row["start"]))
    fields = [(column, pa.type_for_alias(kind)) for column, kind in COLUMNS.items()]
    schema = pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION)})
    table = pa.table({column: [row[column] for row in ordered] for column in COLUMNS}, schema=schema)
    unfinished = folder / f".{name}.unfinished"
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(folder / name)


def read_annotations(folder: Path) -> list[dict[str, Any]]:
    """The rows of annotations.parquet as written; those of schema 1 with the columns that came later.

    Args:
        folder: that holds annotations.parquet, or the path of a file in this format.

    Raises:
        UserError: the file is missing or damaged, lacks a column, or is of a later schema.
    """
    import pyarrow as pa

    path = folder if folder.suffix == ".parquet" or folder.is_file() else folder / ANNOTATIONS
    if not path.is_file():
        raise UserError(f"{path} is missing: give the folder that `lingbot step annotate` wrote.")
    try:
        table = read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is no Parquet file that can be read ({error}): give annotations, or annotate again."
        ) from error
    version = int((table.schema.metadata or {}).get(VERSION_KEY, b"1"))
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this code reads up to {SCHEMA_VERSION}: use a newer version of it."
        )
    expected = [name for name in COLUMNS if version >= SCHEMA_VERSION or name not in SINCE_2]
    missing = [name for name in expected if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: columns {', '.join(missing)} are missing; annotate the dataset again.")
    return [{name: row[name] for name in COLUMNS} for row in map(complete, table.select(expected).to_pylist())]
