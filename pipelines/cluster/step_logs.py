"""What a step on a cluster said before it failed: the end of its pod's log, read from Kubernetes.

Kubeflow's API has no logs. The pods of a run bear its id (`pipeline/runid`, by Kubeflow) and their step
(`lingbot/step`, by the profile); they are found by these while they are kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes.client import CoreV1Api

from components.adapters.api_calls import Caller, Patience, brief, send
from components.execution import ERROR_MARK
from components.launch.cluster import KUBERNETES, connect
from model.errors import UserError
from pipelines.cluster.api import namespace

RUN, STEP = "pipeline/runid", "lingbot/step"  # labels
CONTAINER = "main"  # of Argo's pods
TAIL_LINES = 50
_CALLER = Caller(service=KUBERNETES, patience=Patience(api=30.0))


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """The end of a step.

    Attributes:
        pod: its last one; empty where none is left.
        lines: the last lines of its log.
        report: what components.execution.report wrote there: the step's own error; None where it could not.
        why: why there are no lines.
    """

    pod: str = ""
    lines: tuple[str, ...] = ()
    report: dict[str, Any] | None = None
    why: str = ""


def failed_log(run_id: str, step: str, lines: int = TAIL_LINES) -> StepLog:
    """The log of the last pod of a step that failed. That there is none is an answer, and no error."""
    selector = f"{RUN}={run_id},{STEP}={step}"
    by_hand = f"kubectl -n {namespace()} logs -l {selector} -c {CONTAINER} --tail={lines}"
    try:
        core = CoreV1Api(connect())
        what = f"listing the pods of {step}"
        listed = _CALLER.read(core.list_namespaced_pod, what, namespace(), label_selector=selector)
        failed = [pod for pod in listed["items"] if pod["status"].get("phase") == "Failed"]
        if not failed:
            return StepLog(why=f"no pod of it is left in namespace '{namespace()}' (LINGBOT_NAMESPACE names another)")
        last = max(failed, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
        pod = str(last["metadata"]["name"])
        text = _read(core, pod, lines)
    except KUBERNETES.failures as error:
        return StepLog(why=f"its log cannot be read ({brief(error)}): {by_hand}")
    except UserError as error:
        return StepLog(why=f"its log cannot be read ({error}): {by_hand}")
    report = _report(text)
    return StepLog(pod=pod, lines=tuple(_shown(text) if report else text), report=report)


def _read(core: CoreV1Api, pod: str, lines: int) -> Sequence[str]:
    response = send(core.read_namespaced_pod_log, pod, namespace(), container=CONTAINER, tail_lines=lines)
    text: str = response.data.decode(errors="replace")
    return text.splitlines()


def _report(text: Sequence[str]) -> dict[str, Any] | None:
    for line in reversed(text):
        place = line.find(ERROR_MARK)
        if place >= 0:
            try:
                report: dict[str, Any] = json.loads(line[place + len(ERROR_MARK) :])
            except ValueError:  # a container's runtime cuts long lines, and others come between the pieces
                return None
            return report
    return None


def _shown(text: Sequence[str]) -> list[str]:
    """The lines for a person: the marked report is for us."""
    return [line for line in text if ERROR_MARK not in line]
