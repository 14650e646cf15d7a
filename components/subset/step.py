"""Chooses a part of the packed training episodes, nested by seed (model/data/subset.py has the work)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model.errors import UserError
from model.progress import Progress

NAME = "subset"
INPUTS = ("packed",)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How much, and which.

    Attributes:
        axis: what `amount` counts: a `share` of the hours, `hours`, or `demonstrations` of each task.
        amount: how much. Subsets of one seed are nested.
        seed: of the order in which episodes are taken.
    """

    axis: Literal["share", "hours", "demonstrations"] = "share"
    amount: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_amount("amount", self.axis, self.amount)


def check_amount(name: str, axis: str, amount: float) -> None:
    """UserError when there can be no such amount on that axis."""
    if not (math.isfinite(amount) and amount > 0):
        raise UserError(f"{name} is {amount:g}: it must be above 0 {axis}")
    if axis == "share" and amount > 1:
        raise UserError(f"{name} is {amount:g}: a share of the data is at most 1; for more, set the axis to hours")
    if axis == "demonstrations" and not float(amount).is_integer():
        raise UserError(f"{name} is {amount:g}: demonstrations of a task are whole")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Writes the packed folder of the chosen episodes and all held-out ones, with subset.json.

    Raises:
        UserError: there are not so many, or a task would have none.
    """
    from model.data.packed import PackedDataset
    from model.data.subset import TrainingEpisodes, write_subset
    from model.evaluation.leakage import leakage_record

    found = TrainingEpisodes.read(inputs["packed"])
    selection = found.select(parameters.axis, parameters.amount, parameters.seed)
    progress.message(f"copying {len(selection.episodes)} of {len(found.task_of)} training episodes")
    asked = {"axis": parameters.axis, "amount": parameters.amount, "seed": parameters.seed}
    write_subset(inputs["packed"], output, selection, asked)
    _, digests = leakage_record(PackedDataset.open(output), ())
    return {
        **asked,
        "episodes": len(selection.episodes),
        "hours": selection.hours,
        "demonstrations": min(selection.demonstrations.values()),
        "of_episodes": len(found.task_of),
        "of_hours": found.hours(found.task_of),
        "training_episodes": digests["training_episodes"],
    }
