"""Errors that a user can cause, and the nearest valid name for a mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user gave is wrong: one sentence with the value, the rule and the fix. Exit code 2."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """Error for a name that is not one of `valid`, with the nearest valid name where there is one."""
    names = sorted(valid)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {kind} '{name}': it is none of {', '.join(names)}.{hint}")
