"""Starts a compiled pipeline on the cluster: once for a key, however often and by however many it is asked for.

key = run_key("demonstrations_to_policy", {"dataset": digest})
run_id = submit_once(key, package)           # again, and from elsewhere: the same run

"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig
from kfp_server_api.exceptions import ApiException

from components import state
from components.adapters.api_calls import Object, once
from pipelines.cluster.api import Kubeflow, connect, explain
from pipelines.cluster.once import CLAIM, KEY, Claims, described, description_of, experiment_id, filtered, single

ACTIVE = ("PENDING", "RUNNING", "PAUSED", "CANCELING", "RUNTIME_STATE_UNSPECIFIED")
_ARCHIVED = "ARCHIVED"
_SHORT = 12  # characters of a key in the names that people see


def run_key(pipeline: str, parts: Mapping[str, Any]) -> str:
    """The key of a run: a sha256 over what it must not be started twice for, such as the digest of a dataset."""
    return hashlib.sha256(state.canonical_json({"pipeline": pipeline, **parts})).hexdigest()


def run_name(pipeline: str, key: str) -> str:
    return f"{pipeline.replace('_', '-')}-{key[:_SHORT]}"


def submit_once(
    key: str,
    package: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    pipeline: str = "",
    description: str = "",
    kfp: Kubeflow | None = None,
) -> str:
    """The id of the run of a key: the one that was started for it before, by whomever, or a new one.

    Whatever calls fail, and however many processes ask at once, one run is started. A run that ended, in whatever way,
    is still the run of its key; `lingbot runs retry` takes a failed one up again.

    Args:
        key: a sha256, as `run_key` makes it.
        package: what `pipelines.compile.compile_pipeline` wrote; it is uploaded as it is.
        parameters: of the pipeline's inputs; what is left out has the defaults of the package.
        pipeline: in the name of the run; the name of the package, when left out.
        description: a sentence for the run's page.
        kfp: where; what the environment names, when left out.

    Raises:
        UserError: no address, no permission, the API does not take the pipeline, or is away for longer than the
            patience. What was done until then is found by the next call.
    """
    kfp = kfp or connect()
    name = run_name(pipeline or package.stem, key)
    experiment = experiment_id(kfp)

    def find() -> list[Object]:
        return runs_of(kfp, key, name, experiment)

    claims, pauses = Claims(kfp, key, package), kfp.backoff()
    while not (found := find()):
        claim = claims.take()
        if claim is None:  # somebody else is at it
            pauses.pause()
            continue
        number, version = claim
        body = V2beta1Run(
            experiment_id=experiment,
            display_name=name,
            description=described({KEY: key, CLAIM: str(number)}, description),
            pipeline_version_reference=V2beta1PipelineVersionReference(
                pipeline_id=version["pipeline_id"], pipeline_version_id=version["pipeline_version_id"]
            ),
            runtime_config=V2beta1RuntimeConfig(parameters=dict(parameters or {})),
            service_account=kfp.service_account or None,
        )
        create = kfp.runs.run_service_create_run
        found = list(single(kfp, find, lambda: once(create, body), f"starting run {name}"))  # noqa: B023
        break
    return str(keep_first(kfp, found)["run_id"])


def runs_of(kfp: Kubeflow, key: str, name: str, experiment: str) -> list[Object]:
    """The runs of a key, archived ones too."""
    listed = kfp.pages(
        kfp.runs.run_service_list_runs,
        f"looking for run {name}",
        "runs",
        experiment_id=experiment,
        filter=filtered("display_name", name),
    )
    return [run for run in listed if description_of(run, KEY) == key]


def keep_first(kfp: Kubeflow, runs: Sequence[Object]) -> Object:
    """The one run that counts; whoever looks takes the same. Others, of a server that did late what it had been asked
    for, are ended and archived."""
    first, *others = sorted(
        runs, key=lambda run: (int(description_of(run, CLAIM) or 0), run.get("created_at", ""), run["run_id"])
    )
    for run in others:
        if run.get("storage_state") != _ARCHIVED:
            end_run(kfp, run)
            kfp.read(kfp.runs.run_service_archive_run, f"archiving run {run['run_id']}", run["run_id"])
    return first


def end_run(kfp: Kubeflow, run: Object) -> None:
    """Tells a run to stop, unless it has ended."""
    what = f"cancelling run {run['run_id']}"
    if run.get("state", ACTIVE[0]) not in ACTIVE:
        return
    try:
        kfp.read(kfp.runs.run_service_terminate_run, what, run["run_id"])
    except ApiException as error:
        # It has ended meanwhile, perhaps by a call of ours whose answer was lost.
        if kfp.run(run["run_id"]).get("state") in ACTIVE:
            raise explain(error, what) from error
