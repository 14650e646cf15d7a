"""The steps of a run on a cluster, as Kubeflow tells of them: the same states that a run here has."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from components.adapters.api_calls import Object
from components.steps import STEPS
from pipelines.ir import leaves
from pipelines.live import StepState

_STATUS = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
    "SUCCEEDED": "done",
    "SKIPPED": "cached",  # KFP's own cache had it
    "FAILED": "failed",
    "CANCELED": "stopped",
}
_ENDED = ("done", "cached", "failed", "stopped")
Event = tuple[StepState, dict[str, Any]]


class Steps:
    """The states of all steps of one run. A step that a loop has several times is `evaluate@1`, `evaluate@2`, ..."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """`names` are those that the run will have, in order; those that appear without being named come after."""
        self.states = [StepState(name) for name in names]

    @classmethod
    def of_pipeline(cls, pipeline: Mapping[str, Any]) -> "Steps":
        """Of a compiled pipeline, before anything of it has run."""
        names = []
        for task, count in sorted(leaves(pipeline), key=lambda leaf: _place(step_of(leaf[0]))):
            step = step_of(task)
            names += [step] if count is None else [f"{step}@{number}" for number in range(1, count + 1)]
        return cls(names)

    def update(self, run: Object) -> list[Event]:
        """Takes in a run as it is now; returns what has begun and ended since last time."""
        return [event for step, number, node in _nodes(run) for event in self._take(self._state(step, number), node)]

    def finished(self) -> list[str]:
        """The names of those that need not run any more."""
        return [state.name for state in self.states if state.status in ("done", "cached")]

    def failed(self) -> StepState | None:
        """The step that failed, the first of several."""
        failed = [state for state in self.states if state.status == "failed"]
        return min(failed, key=lambda state: (state.started or 0.0) + (state.seconds or 0.0), default=None)

    def _state(self, step: str, number: int) -> StepState:
        """Of the so-many-th node of a step. A name that nobody gave is made: `step`, `step@2`, ..."""
        names = (f"{step}@{number}", step) if number == 1 else (f"{step}@{number}",)
        for name in names:
            for state in self.states:
                if state.name == name:
                    return state
        self.states.append(StepState(names[-1]))
        return self.states[-1]

    @staticmethod
    def _take(state: StepState, node: Object) -> Iterator[Event]:
        before, state.status = state.status, _STATUS.get(node.get("state", ""), state.status)
        started = moment(node.get("start_time") or node.get("create_time"))
        state.started = started if started is not None else state.started
        ended = state.status in _ENDED
        if ended:
            end = moment(node.get("end_time")) or state.started
            state.seconds = max(0.0, end - state.started) if end and state.started else 0.0
        else:
            state.seconds = None
        if before == "waiting" and state.status not in ("waiting", "cached"):
            yield state, {"event": "start"}
        if ended and before != state.status:
            yield state, {"event": "end", "seconds": state.seconds}


def step_of(task: str) -> str:
    """The step that a task of a pipeline runs: `extract-depth-tokens` is extract_depth_tokens."""
    return task.replace("-", "_")


def moment(text: str | None) -> float | None:
    """Seconds of a time as the API writes it; None where it has none, which is also the year 1 or 1970."""
    if not text:
        return None
    seconds = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    return seconds if seconds > 0 else None


def duration_of(run: Object) -> float | None:
    """Seconds that a run took, or has taken until now."""
    begun = moment(run.get("created_at"))
    return None if begun is None else max(0.0, (moment(run.get("finished_at")) or time.time()) - begun)


def _nodes(run: Object) -> Iterator[tuple[str, int, Object]]:
    """The nodes of a run that are steps, those of one step numbered: drivers, attempts and loops are left out."""
    nodes: dict[str, list[Object]] = {}
    details = (run.get("run_details") or {}).get("task_details") or ()
    for node in details:
        step = step_of(node.get("display_name") or "")
        if step in STEPS:
            nodes.setdefault(step, []).append(node)
    for step, found in sorted(nodes.items(), key=lambda item: _place(item[0])):
        found.sort(key=lambda node: (node.get("create_time") or "", node["task_id"]))
        for number, node in enumerate(found, 1):
            yield step, number, node


def _place(step: str) -> int:
    return list(STEPS).index(step) if step in STEPS else len(STEPS)
