"""What `lingbot runs` does with runs on a cluster: list, show, watch, cancel, retry."""

import json
import time

from kfp_server_api.exceptions import ApiException

from components.adapters.api_calls import Object
from model.errors import UserError, unknown_name
from pipelines.cluster import records
from pipelines.cluster.api import Kubeflow, explain
from pipelines.cluster.following import Ended, end_lines, follow, outcome, steps_of
from pipelines.cluster.leaving import leaving
from pipelines.cluster.once import experiment_id
from pipelines.cluster.results import conclude, keep
from pipelines.cluster.steps import duration_of, moment
from pipelines.cluster.submission import ACTIVE, end_run, keep_first, run_name, runs_of
from pipelines.live import duration, print_table


def find(kfp: Kubeflow, reference: str) -> str:
    """Kubeflow's id of a run: of a record here, or given as it is.

    Raises:
        UserError: there is no such run, or the one of the record was never started.
    """
    record = records.find(reference)
    if record is None:
        if records.is_kubeflows(reference):
            return reference
        raise unknown_name("run", reference, records.known()[-20:])
    if not record["run"] and record["key"]:  # the command that started it was stopped before it knew the answer
        name = run_name(record["pipeline"], record["key"])
        found = runs_of(kfp, record["key"], name, experiment_id(kfp))
        if found:
            run_id = keep_first(kfp, found)["run_id"]
            records.save(record | {"run": run_id, "status": "running", "link": kfp.link(run_id)})
            return str(run_id)
    if not record["run"]:
        raise UserError(f"run {record['id']} was stopped before it was started: give `lingbot run` again")
    return str(record["run"])


def print_list(kfp: Kubeflow, limit: int, as_json: bool) -> None:
    """The runs of the experiment, newest first, whoever started them."""
    listed = kfp.pages(
        kfp.runs.run_service_list_runs,
        "listing the runs",
        "runs",
        experiment_id=experiment_id(kfp),
        sort_by="created_at desc",
    )
    for _, run in zip(range(limit), listed, strict=False):
        if as_json:
            print(json.dumps(run))
            continue
        begun = moment(run.get("created_at"))
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(begun)) if begun else "-"
        print(
            f"{run['run_id']}  {started}  {_status(run):9}  {duration(duration_of(run)):>12}  {run['display_name']}"
            + ("  archived" if run.get("storage_state") == "ARCHIVED" else "")
        )


def show(kfp: Kubeflow, reference: str, as_json: bool) -> None:
    """One run as it is now: its steps, and the error of the one that failed."""
    run = kfp.run(find(kfp, reference))
    if as_json:
        print(json.dumps(run, indent=1))
        return
    print(f"run {run['run_id']}: {_status(run)}, {run['display_name']}")
    steps = steps_of(kfp, run)
    steps.update(run)
    print_table(steps.states, duration_of(run))
    lines = [f"  {kfp.link(run['run_id'])}"]
    if run.get("state") not in ACTIVE:
        ended = outcome(run, steps)
        lines = end_lines(ended, kfp.link(run["run_id"])) + _conclude(reference, ended)
    print("\n".join(lines))


def watch(kfp: Kubeflow, reference: str) -> int:
    """Follows a run to its end; returns the exit code that `lingbot run` has."""
    run_id = find(kfp, reference)
    with leaving(kfp, run_id, reference, cancel=False) as left:
        ended = follow(kfp, run_id)
        print("\n".join([*end_lines(ended, kfp.link(run_id)), *_conclude(reference, ended)]))
        return ended.code
    return left.code


def cancel(kfp: Kubeflow, reference: str) -> None:
    """Tells a run to stop.

    Raises:
        UserError: it has ended.
    """
    run = kfp.run(find(kfp, reference))
    if run.get("state") not in ACTIVE:
        raise UserError(f"run {run['run_id']} is {_status(run)}: there is nothing to cancel")
    end_run(kfp, run)
    print(f"run {run['run_id']} is being cancelled: Kubeflow ends its pods")


def retry(kfp: Kubeflow, reference: str, *, wait: bool) -> int:
    """Takes a failed run up again where it failed; what succeeded stays. Returns the exit code.

    Raises:
        UserError: it has not failed.
    """
    run = kfp.run(find(kfp, reference))
    what = f"taking up run {run['run_id']} again"
    if run.get("state") != "FAILED":
        raise UserError(
            f"run {run['run_id']} is {_status(run)}: Kubeflow takes up failed ones; start another with `lingbot run`"
        )
    try:
        kfp.read(kfp.runs.run_service_retry_run, what, run["run_id"])
    except ApiException as error:
        # It goes on already: by a call of ours whose answer was lost.
        if kfp.run(run["run_id"]).get("state") not in ACTIVE:
            raise explain(error, what) from error
    record = records.find(reference)
    if record is not None:
        records.save(record | {"status": "running", "seconds": None, "error": None})
    print(f"run {run['run_id']} goes on: {kfp.link(run['run_id'])}", flush=True)
    return watch(kfp, reference) if wait else 0


def _conclude(reference: str, ended: Ended) -> list[str]:
    """Keeps the end of a run that was started from here; the lines that tell what it made.

    An end that is known stays as it was found: results are found by the code of this checkout, which may have changed.
    """
    record = records.find(reference)
    if record is None:
        return []
    concluded, lines = conclude(record, ended)
    if concluded["status"] != record["status"]:
        keep(concluded)
    return lines


def _status(run: Object) -> str:
    state = str(run.get("state") or "unknown")
    return "waiting" if state == "PENDING" else records.STATUS.get(state, state.lower())
