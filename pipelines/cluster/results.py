"""What a run on a cluster has made, read from the storage that its steps published to: manifests, and no gigabytes.

Kubeflow's answers hold no digests of ours. They are not needed: the fingerprint of each step follows from its inputs,
its parameters and its code, as in the plan of a run here, and the storage has a manifest under it. A study's policies
have labels here and rounds of a loop there: what became of each is told by what it made.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components import records, state, typed
from components.artifacts import Artifact
from components.code_version import Sources
from components.execution import plan_fingerprint
from components.provenance_files import read_for_run
from components.steps import Step, maker
from model.errors import UserError
from pipelines.cluster.following import Ended
from pipelines.cluster.records import STATUS, save
from pipelines.cluster.steps import duration_of
from pipelines.cost import Prices, Reserved, cost_on_cluster, jobs_of, load_prices
from pipelines.parameters import recorded_parameters
from pipelines.profile import Profile
from pipelines.shape import run_steps
from pipelines.summary import summary_lines, summary_values

STORAGE = "LINGBOT_STORAGE"


def read_results(
    steps: Sequence[Step], parameters: Mapping[str, Mapping[str, Any]], storage: str
) -> dict[str, Artifact]:
    """Task -> what it made, of those whose manifests are in the storage (`url`).

    A run of other code than this checkout's has none that are found here.

    Raises:
        UserError: the storage cannot be read.
    """
    version = Sources().version
    made: dict[str, Artifact] = {}
    with _storage(storage):
        for step in steps:
            before = {name: made.get(maker(step, name)) for name in step.inputs}
            digests = {name: artifact.digest for name, artifact in before.items() if artifact is not None}
            if len(digests) < len(before):
                continue
            identity = plan_fingerprint(step, digests, parameters[step.task], version(step.module))
            found = records.load_artifact(step.name, identity)
            if found is not None:
                made[step.task] = found
    return made


def conclude(record: Mapping[str, Any], ended: Ended) -> tuple[dict[str, Any], list[str]]:
    """The record of a run that has ended, and the lines that end it: what it made, the time of its steps, its cost."""
    profile = Profile.from_json(record["profile"])
    made_from = read_for_run(record["id"])
    assert made_from is not None, "it is written before anything is submitted"
    steps, values = run_steps(record["pipeline"], recorded_parameters(made_from["parameters"]))
    made: dict[str, Artifact] = {}
    said: list[str] = []
    if profile.storage.url:
        try:
            made = read_results(steps, values, profile.storage.url)
        except UserError as error:
            said.append(f"its results cannot be read from here: {error}")
        else:
            if ended.code == 0 and not made:
                said.append(f"its results are in {profile.storage.url}; this checkout holds other code than made them")
    if "prices" in record:
        prices = typed.read(Prices, record["prices"], "the prices of the run")
        jobs = {step: typed.read(Reserved, job, "the jobs of the run") for step, job in record["jobs"].items()}
    else:
        prices, jobs = load_prices(profile.prices), {step.name: jobs_of(values[step.task]) for step in steps}
    times = [
        (found.name, found.status, found.seconds or 0.0) for found in ended.steps.states if found.status != "waiting"
    ]
    concluded = {
        **record,
        "status": STATUS.get(ended.run["state"], "running"),
        "seconds": duration_of(ended.run),
        "error": _error(ended),
        "steps": [_entry(step, values[step.task], ended, made.get(step.task)) for step in steps],
        "cost": cost_on_cluster(times, profile, prices, jobs, {task: artifact.size for task, artifact in made.items()}),
    }
    shown = {**concluded, "provenance": made_from, "served": None, "twin": None, "report": None}
    return concluded, [*summary_lines(shown), *said]


def keep(concluded: Mapping[str, Any]) -> None:
    """Writes down the record of a run that has ended, and its summary."""
    state.write_json(state.run_folder(concluded["id"]) / "summary.json", summary_values(concluded))
    save(dict(concluded))


def _error(ended: Ended) -> dict[str, Any] | None:
    if not ended.step:
        return None
    report = ended.log.report if ended.log else None
    return {"step": ended.step, "message": report["message"] if report else ""}


def _entry(step: Step, parameters: Mapping[str, Any], ended: Ended, artifact: Artifact | None) -> dict[str, Any]:
    """One step of a run as its record holds it: how it went, and what it made."""
    # Which round of a loop is which policy Kubeflow does not say, so there only what was made tells.
    states = {found.name: found for found in ended.steps.states} if not step.label else {}
    found = states.get(step.task)
    entry: dict[str, Any] = {"name": step.task, "step": step.name, "parameters": dict(parameters)}
    entry["status"] = found.status if found else "done" if artifact else "waiting"
    entry["seconds"] = found.seconds if found else None
    if artifact is not None:
        entry |= {
            "fingerprint": artifact.fingerprint,
            "digest": artifact.digest,
            "summary": artifact.summary,
            "uri": artifact.uri,
            "bytes": artifact.size,
        }
    return entry


@contextlib.contextmanager
def _storage(url: str) -> Iterator[None]:
    """The shared storage is that of the cluster, for a block."""
    before = os.environ.get(STORAGE)
    os.environ[STORAGE] = url
    try:
        yield
    finally:
        if before is None:
            del os.environ[STORAGE]
        else:
            os.environ[STORAGE] = before
