"""Schedules: Kubeflow itself starts a pipeline by the clock, with the code and the parameters of when it was set up."""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kfp_server_api import (
    RecurringRunMode,
    V2beta1CronSchedule,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)
from kfp_server_api.exceptions import ApiException

from components.adapters.api_calls import Object, once
from model.errors import UserError, unknown_name
from pipelines import ir
from pipelines.cluster.api import Kubeflow, explain
from pipelines.cluster.cron import kubeflow_cron
from pipelines.cluster.once import KEY, Claims, described, description_of, experiment_id, single
from pipelines.cluster.submission import run_key
from pipelines.compile import compile_pipeline
from pipelines.parameters import RunParameters
from pipelines.profile import Profile

_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_. ]{0,62}")


def add(kfp: Kubeflow, name: str, cron: str, pipeline: str, parameters: RunParameters, profile: Profile) -> str:
    """Sets up a schedule, once; returns Kubeflow's id of it. One run at a time, and none is made up for.

    Raises:
        UserError: another schedule has that name, or the pipeline cannot be submitted.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--name '{name}' is no name of a schedule: letters, digits, dashes and dots, at most 63")
    when = kubeflow_cron(cron)
    with tempfile.TemporaryDirectory() as folder:
        package = compile_pipeline(parameters, profile, Path(folder), pipeline)
        given = ir.inputs(ir.load(package)[0])
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        key = run_key(pipeline, {"schedule": name, "cron": when, "package": digest, "parameters": given})
        for other in _named(kfp, name):
            if description_of(other, KEY) != key:
                raise UserError(
                    f"the schedule '{name}' is there, with another time, code or parameters: remove it first with "
                    f"`lingbot runs schedule --name {name} --remove`, or give another --name"
                )
        made = _create(kfp, name, key, when, package, given)
    print(f"schedule '{name}': {pipeline} at '{when}' (second, minute, hour, day, month, weekday; UTC)")
    print(f"  {kfp.recurring_link(made['recurring_run_id'])}")
    return str(made["recurring_run_id"])


def _create(kfp: Kubeflow, name: str, key: str, when: str, package: Path, given: Object) -> Object:
    version, experiment = Claims(kfp, key, package).version(), experiment_id(kfp)
    body = V2beta1RecurringRun(
        experiment_id=experiment,
        display_name=name,
        description=described({KEY: key}, "set up by lingbot runs schedule"),
        pipeline_version_reference=V2beta1PipelineVersionReference(
            pipeline_id=version["pipeline_id"], pipeline_version_id=version["pipeline_version_id"]
        ),
        runtime_config=V2beta1RuntimeConfig(parameters=given),
        service_account=kfp.service_account or None,
        trigger=V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=when)),
        mode=RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,
    )
    create = kfp.recurring.recurring_run_service_create_recurring_run

    def find() -> list[Object]:
        return [found for found in _named(kfp, name) if description_of(found, KEY) == key]

    # Two people who set up the same at once make two; who looks last leaves the first.
    found = single(kfp, find, lambda: once(create, body), f"setting up schedule {name}")
    first, *others = sorted(found, key=lambda made: (made.get("created_at", ""), made["recurring_run_id"]))
    for other in others:
        _delete(kfp, other)
    return first


def print_schedules(kfp: Kubeflow) -> None:
    for found in _all(kfp):
        cron = (found.get("trigger") or {}).get("cron_schedule", {}).get("cron", "-")
        print(f"{found['recurring_run_id']}  {found.get('status', '-').lower():9}  {cron:20}  {found['display_name']}")


def remove(kfp: Kubeflow, name: str) -> None:
    """Ends a schedule; runs that it started go on.

    Raises:
        UserError: there is none of that name.
    """
    named = list(_named(kfp, name))
    if not named:
        raise unknown_name("schedule", name, [found["display_name"] for found in _all(kfp)])
    for found in named:
        _delete(kfp, found)
    print(f"schedule '{name}' is removed; what it started goes on")


def _delete(kfp: Kubeflow, found: Object) -> None:
    what = f"removing schedule '{found['display_name']}'"
    try:
        kfp.read(kfp.recurring.recurring_run_service_delete_recurring_run, what, found["recurring_run_id"])
    except ApiException as error:
        if error.status != 404:  # 404: removed by a call of ours whose answer was lost
            raise explain(error, what) from error


def _named(kfp: Kubeflow, name: str) -> Iterator[Object]:
    return (found for found in _all(kfp) if found["display_name"] == name)


def _all(kfp: Kubeflow) -> Iterator[Object]:
    listing = kfp.recurring.recurring_run_service_list_recurring_runs
    return kfp.pages(listing, "listing the schedules", "recurringRuns", experiment_id=experiment_id(kfp))
