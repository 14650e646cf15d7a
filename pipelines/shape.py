"""Which steps a DAG has: collected or ingested data. Apart from the KFP definition, which takes a second to import."""

from components.steps import STEPS, Step, choose
from pipelines.parameters import RunParameters

SOURCES = ("collect", "ingest")


def dag_steps(source: str) -> tuple[Step, ...]:
    """The steps of `demonstrations_to_policy` whose data comes from `source`, in order."""
    assert source in SOURCES
    return choose(STEPS.values(), leave_out=set(SOURCES) - {source})


def source_of(parameters: RunParameters) -> str:
    """Where the data comes from: ingested when `ingest.dataset` names a dataset, collected in simulation otherwise."""
    return "ingest" if parameters.steps["ingest"]["dataset"] else "collect"
