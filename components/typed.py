"""Frozen dataclasses from YAML or JSON, every key and type checked: what settings files and profiles are read with."""

import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from components.secrets import refuse_in_settings
from components.steps import check_value
from model.errors import UserError, unknown_name

QUANTITY = re.compile(r"(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[mkMGTPE]|[eE][+-]?\d+)?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
DNS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[-._A-Za-z0-9]+")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

T = TypeVar("T")


def read(kind: type[T], values: Any, whole: str, where: str = "") -> T:
    """A dataclass from a mapping.

    Args:
        kind: a dataclass of texts, numbers, booleans, literals, mappings of text to any of these, tuples of texts or of
            dataclasses, and dataclasses.
        values: what the file holds.
        whole: what messages call the file.
        where: the path of keys to `values` in it.

    Raises:
        UserError: an unknown key (with the nearest one), a missing one, or a value of another type.
    """
    place = where or whole
    if not isinstance(values, Mapping):
        raise UserError(f"{place} holds {values!r}: it must hold a mapping of names to values.")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise unknown_name(f"key of {place}", str(name), hints)
    for wanted in fields(kind):  # type: ignore[arg-type]
        if wanted.name not in values and wanted.default is MISSING and wanted.default_factory is MISSING:
            raise UserError(f"{place} has no '{wanted.name}': it has no default, so give it.")
    prefix = f"{where}." if where else ""
    return kind(**{name: _value(f"{prefix}{name}", value, hints[name], whole) for name, value in values.items()})


def _value(name: str, value: Any, expected: Any, whole: str) -> Any:
    if isinstance(expected, type) and is_dataclass(expected):
        return read(expected, value, whole, name)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise UserError(f"{name} holds {value!r}: it must hold a mapping of names to values.")
        return {
            check_value(f"a key of {name}", key, str): _value(f"{name}.{key}", value[key], arguments[1], whole)
            for key in value
        }
    if origin is tuple and is_dataclass(arguments[0]):
        if not isinstance(value, list | tuple):
            raise UserError(f"{name} holds {value!r}: it must be a list.")
        return tuple(_value(f"{name}[{index}]", item, arguments[0], whole) for index, item in enumerate(value))
    if expected is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # cpu: 64
    return check_value(name, value, expected)


def match(name: str, value: str, pattern: re.Pattern[str], rule: str) -> None:
    """UserError unless the whole value is as the pattern says."""
    if not pattern.fullmatch(value):
        raise UserError(f"{name} is '{value}': it must be {rule}.")


def labels(name: str, given: Mapping[str, str]) -> None:
    """UserError unless these can be labels of a Kubernetes object."""
    for key, value in given.items():
        match(f"a key of {name}", key, LABEL_KEY, "a label's key such as team or example.com/team")
        match(f"{name}.{key}", value, _LABEL_VALUE, "at most 63 letters, digits, dashes, underscores and dots")


def at_least(name: str, value: int, least: int) -> None:
    """UserError when the value is smaller."""
    if value < least:
        raise UserError(f"{name} is {value}: it must be {least} or more.")


def environment(plain: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """UserError unless these are variables of a container: by value, and as `secret/key`."""
    for variable in (*plain, *secrets):
        match("a name in environment or secrets", variable, VARIABLE, "letters, digits and underscores")
    for variable, value in plain.items():
        refuse_in_settings("environment", variable, value)
    for variable, secret in secrets.items():
        match(f"secrets.{variable}", secret, SECRET, "the secret's name and its key, for example s3/access-key")
    both = sorted(plain.keys() & secrets.keys())
    if both:
        raise UserError(f"{', '.join(both)} stands in environment and in secrets: keep one of the two.")
