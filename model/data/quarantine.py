"""The list of episodes that validation takes out: `quarantine.yaml` of a verdict folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.yaml_files import read_yaml

QUARANTINE = "quarantine.yaml"


def read_quarantine(folder: Path) -> frozenset[int]:
    """Numbers of the quarantined episodes; empty when the list is.

    Raises:
        UserError: the file is missing, or is not a list of entries with an `episode`.
    """
    path = folder / QUARANTINE
    if not path.is_file():
        raise UserError(f"{path} is missing: give the folder that `lingbot step validate` wrote.")
    entries = read_entries(path, ("episode", "rule", "evidence"))
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("episode"), int):
            raise UserError(f"{path}: {entry!r} names no 'episode' by its number; write {{episode: 3, rule: ...}}.")
    return frozenset(entry["episode"] for entry in entries)


def read_entries(path: Path, keys: Sequence[str]) -> list[Any]:
    """The list in a YAML file whose entries should have `keys`; the entries themselves are not checked.

    Raises:
        UserError: it is no YAML, or no list.
    """
    entries = read_yaml(path) or []
    if not isinstance(entries, list):
        raise UserError(f"{path} must be a list of {{{', '.join(keys)}}}, it is a {type(entries).__name__}.")
    return entries
