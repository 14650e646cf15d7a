"""The thresholds of the rules: `thresholds/default.yaml`, and what a robot's own file or a user's file says instead.

A file maps a name to `{value, source}`. The source says where the number comes from. `unverified` is a source too: a
bound that nobody has confirmed for the robot may point at an episode, but not throw it away, so its rule only warns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from model.errors import UserError, unknown_name
from model.yaml_files import read_yaml

FOLDER = Path(__file__).parent / "thresholds"
UNVERIFIED = "unverified"


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One number and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Thresholds:
    """Every threshold by name."""

    entries: Mapping[str, Threshold]

    def __getitem__(self, name: str) -> float:
        return self.entries[name].value

    def verified(self, name: str) -> bool:
        return self.entries[name].source != UNVERIFIED

    def to_json(self) -> dict[str, dict[str, Any]]:
        return {name: {"value": each.value, "source": each.source} for name, each in self.entries.items()}


def load_thresholds(robot: str, own: Path | None = None) -> Thresholds:
    """The defaults, then those of `thresholds/<robot>.yaml` where there is such a file, then those of the file `own`.

    Raises:
        UserError: a file is missing or not YAML, or names a threshold that does not exist; names the nearest.
    """
    entries = dict(_read(FOLDER / "default.yaml"))
    named = FOLDER / f"{robot}.yaml"
    for path in ([named] if named.is_file() else []) + ([own] if own is not None else []):
        for name, threshold in _read(path).items():
            if name not in entries:
                raise unknown_name(f"threshold in {_shown(path)}", name, sorted(entries))
            entries[name] = threshold
    return Thresholds(entries)


@cache
def _read(path: Path) -> dict[str, Threshold]:
    where = _shown(path)
    if not path.is_file():
        raise UserError(f"{where} is missing: give a YAML file of thresholds, or an empty name for none.")
    raw = read_yaml(path, where) or {}
    if not isinstance(raw, dict):
        raise UserError(f"{where} must map names to {{value, source}}, it is a {type(raw).__name__}.")
    return {str(name): _threshold(where, str(name), entry) for name, entry in raw.items()}


def _threshold(where: str, name: str, entry: Any) -> Threshold:
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise UserError(f"{where}: '{name}' is {entry!r}. Write {name}: {{value: 1.0, source: where it comes from}}.")
    value, source = entry["value"], entry["source"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise UserError(f"{where}: the value of '{name}' is {value!r}. It must be a number, zero or more.")
    if not isinstance(source, str) or not source.strip():
        raise UserError(f"{where}: '{name}' has no source. Say where {value} comes from, or write {UNVERIFIED}.")
    return Threshold(value=float(value), source=source)


def _shown(path: Path) -> str:
    return f"components/validate/thresholds/{path.name}" if path.parent == FOLDER else str(path)
