"""Which steps a DAG has: collected or ingested data. Apart from the KFP definition, which takes a second to import."""

from collections.abc import Mapping
from typing import Any

from components.steps import STEPS, Step, choose, spread
from model.errors import UserError
from pipelines.parameters import RunParameters

SOURCES = ("collect", "ingest")
MAIN, STUDY = "demonstrations_to_policy", "study"
Parameters = Mapping[str, Mapping[str, Any]]


def dag_steps(source: str) -> tuple[Step, ...]:
    """The steps of `demonstrations_to_policy` whose data comes from `source`, in order."""
    assert source in SOURCES
    studies = {step.name for step in STEPS.values() if step.study}
    return choose(STEPS.values(), leave_out={*SOURCES, *studies} - {source})


def data_steps(source: str) -> tuple[Step, ...]:
    """Those of them that come before training."""
    steps = dag_steps(source)
    return steps[: [step.name for step in steps].index("pretrain")]


def source_of(parameters: RunParameters) -> str:
    """Where the data comes from: ingested when `ingest.dataset` names a dataset, collected in simulation otherwise."""
    return "ingest" if parameters.steps["ingest"]["dataset"] else "collect"


def steps_with(name: str, source: str) -> tuple[Step, ...]:
    """The steps of a DAG that has the step `name`, as far as it goes outside of a study's loop.

    Raises:
        UserError: it joins the policies of a study, and there is none of it outside of one.
    """
    if not STEPS[name].study:
        return dag_steps(source)
    if STEPS[name].many:
        raise UserError(f"the step '{name}' joins the policies of a study: run it with `lingbot run {STUDY}`")
    return choose([*data_steps(source), STEPS[name]], leave_out=())


def run_steps(pipeline: str, parameters: RunParameters) -> tuple[tuple[Step, ...], Parameters]:
    """The tasks of a run in order, each with one maker for each input, and the parameters of each task.

    Raises:
        UserError: the parameters give no such study.
    """
    source = source_of(parameters)
    if pipeline == MAIN:
        return dag_steps(source), parameters.steps
    from pipelines.policies import loop_steps, policies

    table = {step.name: step for step in (*dag_steps(source), STEPS["subset"])}
    steps, values = list(data_steps(source)), dict(parameters.steps)
    chosen = policies(parameters)
    for label, sections in chosen.items():
        for step in loop_steps(table, label):
            steps.append(step)
            values[step.task] = sections[step.name]
    steps.append(spread(STEPS[STUDY], {"evaluations": [f"evaluate@{label}" for label in chosen]}))
    return tuple(steps), values
