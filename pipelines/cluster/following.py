"""Follows a run on a cluster to its end: its steps as they begin and end, and what the one that failed said."""

import json
import sys
import time
from dataclasses import dataclass
from typing import TextIO

from components.adapters.api_calls import Object
from pipelines.cluster.api import Kubeflow
from pipelines.cluster.step_logs import StepLog, failed_log
from pipelines.cluster.steps import Steps
from pipelines.cluster.submission import ACTIVE
from pipelines.live import open_view

STOPPED = 130
_SHOWN_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a run.

    Attributes:
        run: as Kubeflow has it.
        code: for the shell: 0 done, 1 a fault, 2 the user can put it right, 130 cancelled.
        step: that failed.
        log: of it.
        steps: all of them.
    """

    run: Object
    code: int
    steps: Steps
    step: str = ""
    log: StepLog | None = None


def steps_of(kfp: Kubeflow, run: Object) -> Steps:
    """The steps that a run will have, from the pipeline that it was started with."""
    reference = run.get("pipeline_version_reference") or {}
    spec = run.get("pipeline_spec")
    if "pipeline_version_id" in reference:
        version = kfp.read_or_none(
            kfp.pipelines.pipeline_service_get_pipeline_version,
            "reading its pipeline",
            reference["pipeline_id"],
            reference["pipeline_version_id"],
        )
        spec = (version or {}).get("pipeline_spec")
    spec = (spec or {}).get("pipeline_spec", spec)  # with a platform part beside it, or by itself
    return Steps.of_pipeline(spec) if spec and "root" in spec else Steps()


def follow(kfp: Kubeflow, run_id: str, stream: TextIO | None = None) -> Ended:
    """Shows the steps of a run until it has ended.

    Raises:
        UserError: there is no such run, or the API is away for too long.
    """
    stream = stream or sys.stdout
    run = kfp.run(run_id)
    steps = steps_of(kfp, run)
    events = steps.update(run)
    before = steps.finished()  # what has happened already is said in one line
    if before:
        print(f"finished before: {', '.join(before)}", file=stream, flush=True)
    events = [(state, event) for state, event in events if state.name not in before]
    with open_view(stream) as view:
        while True:
            view.show(steps.states, events)
            if run.get("state", ACTIVE[0]) not in ACTIVE:
                break
            time.sleep(kfp.patience.poll)
            run = kfp.run(run_id)
            events = steps.update(run)
    return outcome(run, steps)


def outcome(run: Object, steps: Steps) -> Ended:
    """What the end of a run means, with the log of the step that failed."""
    state = run.get("state")
    if state == "FAILED":
        failed = steps.failed()
        if failed is None:
            return Ended(run=run, code=1, steps=steps)
        log = failed_log(run["run_id"], failed.name.partition("@")[0])
        user = log.report is not None and log.report["user"]
        return Ended(run=run, code=2 if user else 1, steps=steps, step=failed.name, log=log)
    return Ended(run=run, code=STOPPED if state == "CANCELED" else 0, steps=steps)


def end_lines(ended: Ended, link: str) -> list[str]:
    """What a person is told at the end of a run."""
    if ended.code == 0:
        return [f"done: {link}"]
    if ended.code == STOPPED:
        return [f"cancelled: {link}"]
    log = ended.log
    if log is None:
        said = (ended.run.get("error") or {}).get("message") or json.dumps(ended.run.get("error"))
        return [f"the run failed, and none of its steps: {said}", f"  {link}"]
    lines = []
    if log.report is not None:
        lines.append(f"step '{ended.step}' failed: {log.report['message']}")
    else:
        lines.append(f"step '{ended.step}' failed")
    if log.why:
        lines.append(f"  {log.why}")
    elif ended.code != 2:  # where the user can put it right the sentence says how; elsewhere the log is wanted
        lines.append(f"  the end of the log of pod {log.pod}:")
        lines += [f"  | {line}" for line in log.lines[-_SHOWN_LINES:]]
    lines.append(f"  {link}")
    return lines
