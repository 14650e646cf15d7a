"""The policies of a study: for each amount of data and each seed, the steps that make and judge it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from components.steps import STEPS, Step, make_parameters
from model.errors import UserError
from pipelines.parameters import RunParameters

LOOP = ("subset", "pretrain", "finetune", "evaluate")
TRAINED_ON_ITS_PART = ("pretrain", "finetune")
# What a study does not ask of an evaluation: it compares policies with each other.
ALONE = {"baselines": False, "language": False}


def policies(parameters: RunParameters) -> dict[str, dict[str, dict[str, Any]]]:
    """Label of each policy -> step of the loop -> its parameters.

    Raises:
        UserError: the section `study` asks for what the data cannot have.
    """
    study = make_parameters(STEPS["study"], parameters.steps["study"])
    _check_collected(parameters, study)
    return {
        f"{amount:g}-{number}": _sections(parameters, study.axis, amount, number)
        for amount in study.amounts
        for number in range(study.repeats)
    }


def loop_steps(table: Mapping[str, Step], label: str) -> list[Step]:
    """The steps of one policy. Inside of the loop a name means this policy's step, outside of it the run's.

    Args:
        table: the steps of the loop, each input with one maker as `demonstrations_to_policy` has it.
    """
    found = []
    for name in LOOP:
        inputs = {key: made_by for key, (made_by,) in table[name].inputs.items()}
        if name in TRAINED_ON_ITS_PART:
            inputs["packed"] = "subset"
        one = {key: (f"{made_by}@{label}" if made_by in LOOP else made_by,) for key, made_by in inputs.items()}
        found.append(dataclasses.replace(table[name], label=label, inputs=one))
    return found


def _sections(parameters: RunParameters, axis: str, amount: float, number: int) -> dict[str, dict[str, Any]]:
    """Of the policy `number` of an amount: its seeds follow on those of the parameters."""
    given = parameters.steps
    changed: dict[str, dict[str, Any]] = {
        "subset": {"axis": axis, "amount": amount, "seed": given["subset"]["seed"] + number},
        "pretrain": {"seed": given["pretrain"]["seed"] + number},
        "finetune": {"seed": given["finetune"]["seed"] + number},
        "evaluate": ALONE,
    }
    return {name: {**given[name], **changed[name]} for name in LOOP}


def _check_collected(parameters: RunParameters, study: Any) -> None:
    """Known before minutes go into collecting: so many demonstrations of a task will not be there."""
    collect, most = parameters.steps["collect"], max(study.amounts)
    if parameters.steps["ingest"]["dataset"] or study.axis != "demonstrations":
        return
    tasks, held_out = len(collect["tasks"]), parameters.steps["pack"]["holdout_fraction"]
    there = collect["episodes"] // tasks
    if there < most:
        # some more than the share that is held out: which episodes those are is drawn
        wanted = int(tasks * (most / (1 - held_out) * 1.05 + 1))
        raise UserError(
            f"study.amounts asks for {most:g} demonstrations a task, collect.episodes {collect['episodes']} gives "
            f"{there} of each of {tasks}, of which {held_out:.0%} are held out: set collect.episodes={wanted}"
        )
