"""The files of a LeRobot dataset's `meta/`, read strictly: what is missing or broken is named with its file."""

import json
from collections.abc import Mapping
from typing import Any

from model.data.arrow import read_table
from model.data.files import DatasetFiles
from model.errors import UserError


def read_parquet(files: DatasetFiles, name: str) -> Any:
    """A pyarrow table; UserError names the file when it is absent or broken."""
    import pyarrow as pa

    if name not in files:
        raise UserError(f"{files.path(name)} is missing. Copy the whole dataset, or restore this file.")
    try:
        with files.open(name) as file:
            return read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{files.path(name)} cannot be read as Parquet ({_first_line(error)}). Restore the file."
        ) from error


def whole_numbers(row: Mapping[str, Any], keys: tuple[str, ...], where: str) -> list[int]:
    for key in keys:
        if not isinstance(row.get(key), int) or row[key] < 0:
            raise UserError(f"{where}: '{key}' is {row.get(key)!r}. It must be a whole number, zero or more.")
    return [row[key] for key in keys]


def read_json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not valid JSON (line {error.lineno}: {error.msg}). Restore the file.") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} must hold a JSON object, it holds a {type(value).__name__}.")
    return value


def read_json_lines(files: DatasetFiles, name: str) -> list[dict[str, Any]]:
    if name not in files:
        raise UserError(f"{files.path(name)} is missing. A v2.x dataset needs it: restore the file.")
    path, lines = files.path(name), files.text(name).splitlines()
    return [read_json(line, f"{path} line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
