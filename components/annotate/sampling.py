"""Which segments a person should look at: the least confident ones, and a random control that measures the rest.

The least confident segments are where most is put right, so their errors say nothing about the others. The control is a
simple random sample of all segments, drawn without regard to confidence: its share of errors is unbiased.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.annotate.episodes import Row, Rows
from model.data.annotations import ACCEPTED
from model.errors import UserError

SCHEMA_VERSION = 1
SHOWN = ("episode", "start", "end", "atomic_action", "arm", "sub_task", "confidence")  # what is kept of a drawn segment


def least_confident(rows: Rows) -> list[Row]:
    """The segments that nobody has accepted, the least confident first; equals in order of episode and time."""
    return sorted(population(rows), key=lambda row: (row["confidence"], row["episode"], row["start"]))


def population(rows: Rows) -> list[Row]:
    """The segments that nobody has accepted."""
    return [row for row in rows if row["review_state"] != ACCEPTED]


def draw_sample(rows: Rows, *, least: int, control: int, seed: int) -> dict[str, Any]:
    """What to review: `least` segments that are least confident, and a random control of `control` segments.

    Both are drawn from the segments that nobody has accepted; one segment may be in both.

    Returns:
        schema_version, seed, `population` (segments), `least_confident` and `control` (segments, `SHOWN` of each),
        `episodes`: those to review, in an order that does not tell which segment is of which sample.

    Raises:
        UserError: there are fewer segments than are asked for.
    """
    there = population(rows)
    for name, count in (("--least-confident", least), ("--control", control)):
        if not 0 <= count <= len(there):
            raise UserError(
                f"{name} is {count}: choose 0 to {len(there)}, the number of segments that nobody has accepted."
            )
    ordered = sorted(there, key=lambda row: (row["episode"], row["start"]))
    drawn = random.Random(seed).sample(ordered, control)
    doubtful = least_confident(rows)[:least]
    return {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "population": len(there),
        "least_confident": [_kept(row) for row in doubtful],
        "control": [_kept(row) for row in drawn],
        "episodes": _in_turn([row["episode"] for row in doubtful], [row["episode"] for row in drawn]),
    }


def read_sample(path: Path) -> dict[str, Any]:
    """A sample that `lingbot annotate sample` wrote.

    Raises:
        UserError: it is missing, is none, or is of a later schema.
    """
    try:
        sample = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): give a file that `lingbot annotate sample` wrote."
        ) from error
    no_sample = UserError(f"{path} is no sample for review: give a file that `lingbot annotate sample` wrote.")
    if not isinstance(sample, dict) or not {"control", "population", "episodes"} <= sample.keys():
        raise no_sample
    if sample.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {sample.get('schema_version')}, this code reads {SCHEMA_VERSION}: draw it anew."
        )
    drawn, population = sample["control"], sample["population"]
    if not isinstance(drawn, list) or type(population) is not int or len(drawn) > population:
        raise no_sample
    if not all(isinstance(row, dict) and set(SHOWN) <= row.keys() for row in drawn):
        raise no_sample
    return sample


def _kept(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in SHOWN}


def _in_turn(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The different numbers of both, one of each in turn."""
    longest = max(len(first), len(second))
    mixed = [side[place] for place in range(longest) for side in (first, second) if place < len(side)]
    return list(dict.fromkeys(mixed))
