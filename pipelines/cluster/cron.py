"""Cron as everybody writes it, as Kubeflow reads it: checked field by field before anything is set up."""

import re

from model.errors import UserError

# Name, first and last number, and what may stand for them, from the first on. Kubeflow's weekdays end with Saturday.
_FIELDS = (
    ("second", 0, 59, ""),
    ("minute", 0, 59, ""),
    ("hour", 0, 23, ""),
    ("day of month", 1, 31, ""),
    ("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"),
    ("weekday", 0, 6, "SUN MON TUE WED THU FRI SAT"),
)
_PART = re.compile(r"([*?]|\w+(?:-\w+)?)(?:/(\d+))?", re.ASCII)  # Kubeflow reads no digits of other scripts


def kubeflow_cron(text: str) -> str:
    """Cron with the second before it, which Kubeflow wants.

    Args:
        text: minute, hour, day of month, month, weekday; or these with the second before them.

    Raises:
        UserError: it is no cron expression.
    """
    fields = text.split()
    # Kubeflow reads five fields from the second on: '0 3 * * *' would be every hour, three minutes past.
    if len(fields) not in (5, 6):
        raise UserError(
            f"--cron '{text}' is no time: give minute, hour, day of month, month and weekday, such as '0 3 * * 1-5'"
        )
    fields = fields if len(fields) == 6 else ["0", *fields]
    for field, (name, first, last, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _is_part(part, first, last, names.split()):
                raise UserError(
                    f"--cron '{text}' has the {name} '{part}': it must be *, a number from {first} to {last}, a range "
                    f"such as {first}-{last}, or either with a step such as */2"
                    + (f"; {names.split()[0]} to {names.split()[-1]} are {first} to {last}" if names else "")
                )
    return " ".join(fields)


def _is_part(part: str, first: int, last: int, names: list[str]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or match[2] == "0":
        return False
    if match[1] in "*?":
        return True
    values = [_number(end, first, names) for end in match[1].split("-")]
    return all(value is not None and first <= value <= last for value in values) and values == sorted(
        value for value in values if value is not None
    )


def _number(text: str, first: int, names: list[str]) -> int | None:
    if text.upper() in names:
        return names.index(text.upper()) + first
    return int(text) if text.isdecimal() else None
