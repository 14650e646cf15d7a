"""The annotations table: one row a segment of an episode, with its atomic action and its texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import UserError

ANNOTATIONS = "annotations.parquet"
# column -> Arrow type, in the order of the file; `end` is exclusive, both in frames of the dataset
COLUMNS = {
    "episode": "int64",
    "start": "int64",
    "end": "int64",
    "atomic_action": "string",
    "arm": "string",
    "task": "string",
    "sub_task": "string",
    "source": "string",
    "confidence": "float",
    "review_state": "string",
}


def write_annotations(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write annotations.parquet, sorted by episode and start; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(rows, key=lambda row: (row["episode"], row["start"]))
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    table = pa.table({name: [row[name] for row in ordered] for name in COLUMNS}, schema=schema)
    pq.write_table(table, folder / ANNOTATIONS, compression="zstd")


def read_annotations(folder: Path) -> list[dict[str, Any]]:
    """The rows of annotations.parquet, as written.

    Raises:
        UserError: the file is missing or damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / ANNOTATIONS
    if not path.is_file():
        raise UserError(f"{path} is missing: give the folder that `lingbot step annotate` wrote.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no Parquet file that can be read ({error}); annotate the dataset again.") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: columns {', '.join(missing)} are missing; annotate the dataset again.")
    return table.select(list(COLUMNS)).to_pylist()
