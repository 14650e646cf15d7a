"""What is known of a job that is followed, and when it has ended: no network in here.

The launcher starts jobs again by itself, as the next attempt; so an attempt has ended when the first of its pods has
failed, whatever the operator would do then. The other pods get a moment to end too, because the cause is what one of
them says and the others only suffer from (`outcomes.cause`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.launch.kinds import JobKind, Object
from components.launch.outcomes import EXIT_KILLED, EXIT_PREEMPTED, Kind, Report, cause, classify

DELETED = "Terminated"  # the reason of a pod that was deleted without saying why
_OVERDUE_SECONDS = 30.0  # after its grace time, a pod that was told to end is taken for lost with its node
_OPERATOR_SECONDS = 600.0  # after its deadline, a job is ended here: nobody else did


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How one pod ended.

    Attributes:
        pod, uid: its name and its identity. node: its number in the job.
        kind: what it was.
        message: one sentence.
        exit_code: of the rank that failed first, or of the container; None where nobody said.
        report: what the node said at its end, if it could.
        deleted: the pod was told to go without another reason, as an operator clears away what a failure left.
        previous: the container was started again since; the log is that of the previous one.
        at: when the container ended, as text that sorts.
    """

    pod: str
    uid: str
    node: int
    kind: Kind
    message: str
    exit_code: int | None = None
    report: Report | None = None
    deleted: bool = False
    previous: bool = False
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The end of an attempt: its kind, one sentence, the pods that failed, the first cause first, and what had not
    run when the time to start was over (the job and pods)."""

    kind: Kind
    message: str
    endings: tuple[Ending, ...] = ()
    waiting: tuple[str, ...] = ()


class Followed:
    """One job as its views tell it. Times are those of a monotonic clock, in seconds."""

    def __init__(self, kind: JobKind, *, start: float, settle: float, now: float) -> None:
        """`start`: until all pods must have been Running. `settle`: after the first failure, for the other pods."""
        self.kind = kind
        self.job: Object | None = None
        # By uid, the last state of every pod, also of those that are gone: an operator makes a new one of that name.
        self.pods: dict[str, Object] = {}
        self.gone: set[str] = set()
        self._missing: set[str] = set()  # of those that are gone: a list lacked them, and no event has told their end
        self._start, self._settle = start, settle
        self._began = self._since = now
        self._ran: set[str] = set()
        self._told_to_end: dict[str, tuple[float, int]] = {}  # by uid: when, and at which event
        self._events = 0
        self._failed_event: int | None = None  # the first at which a pod had failed by itself
        self._failed_at: float | None = None
        self._job_gone = False

    def see_job(self, event: str, told: Any, now: float) -> None:
        """An event of the view of the job (`watching.View`)."""
        queued = self._suspended()
        if event == "LISTED":
            self._job_gone = not told
            told = told[0] if told else self.job
        elif event == "DELETED":
            self._job_gone = True
        self.job = told
        if queued and not self._suspended():
            self._since = now  # it waited in a queue: its time to start begins

    def _suspended(self) -> bool:
        return self.job is not None and self.kind.state(self.job)[0] == "suspended"

    def see_pods(self, event: str, told: Any, now: float) -> None:
        """An event of the view of the pods."""
        self._events += 1
        if event == "LISTED":
            missing = self.pods.keys() - {pod["metadata"]["uid"] for pod in told} - self.gone
            self.gone |= missing
            self._missing |= missing
            for pod in told:
                self._pod(pod, now)
        else:
            self._pod(told, now)
            if event == "DELETED":
                self.gone.add(told["metadata"]["uid"])
                self._missing.discard(told["metadata"]["uid"])
        if self._failed_event is None and any(not ending.deleted for ending in self._bad_endings(now)):
            self._failed_event = self._events

    def _pod(self, pod: Object, now: float) -> None:
        uid = pod["metadata"]["uid"]
        self.pods[uid] = pod
        self.gone.discard(uid)
        if pod.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed"):
            self._ran.add(uid)
        if disruption(pod):
            self._told_to_end.setdefault(uid, (now, self._events))

    def unexplained(self) -> bool:
        """Whether a pod is missing from a list though none of its states so far says how it ended: the events of the
        watch, which come later than the list, may still tell."""
        return any(self._terminated(self.pods[uid])[0] is None for uid in self._missing)

    def main_pod(self) -> Object | None:
        """The pod of rank 0, once it runs or has run; of an elastic job the newest."""
        ran = [pod for uid, pod in self.pods.items() if uid in self._ran and self.kind.node(pod) == 0]
        if not ran:
            return None
        return ran[-1] if self.job is not None and self.kind.elastic(self.job) else ran[0]

    def verdict(self, now: float) -> Verdict | None:
        """The end of the attempt; None while it goes on."""
        if self.job is None and not self._job_gone:
            return None
        if self.job is None or self._job_gone or "deletionTimestamp" in self.job["metadata"]:
            return Verdict(kind="cancelled", message="the job was deleted")
        state, reason, message = self.kind.state(self.job)
        if state == "succeeded":
            return Verdict(kind="succeeded", message="all ranks have succeeded")
        if state == "failed" and (reason == "DeadlineExceeded" or "deadline" in message):
            return Verdict(kind="deadline", message=message)
        failures = self._failures(now)
        if (failures and not self._elastic(failures)) or state == "failed":
            if self._failed_at is None:
                self._failed_at = now
            if self._all_ended(now) or now - self._failed_at >= self._settle:
                return self._failed(failures, message or reason)
            return None
        return None if state == "suspended" else self._late(now)

    def _bad_endings(self, now: float) -> list[Ending]:
        endings = (self.ending(pod, now) for pod in self.pods.values())
        return [ending for ending in endings if ending is not None and ending.kind != "succeeded"]

    def _failures(self, now: float) -> list[Ending]:
        """Pods that failed, without those that were deleted because of it."""
        failed = self._failed_event
        return [
            ending
            for ending in self._bad_endings(now)
            if not ending.deleted or failed is None or self._told_to_end[ending.uid][1] < failed
        ]

    def _elastic(self, failures: Sequence[Ending]) -> bool:
        """Whether the job goes on without what it lost; the operator starts the pods anew."""
        assert self.job is not None
        lost = all(
            ending.kind == "node_lost" and (ending.exit_code is None or ending.uid in self.gone) for ending in failures
        )
        alive = len(self._ran - {ending.uid for ending in failures})
        return lost and self.kind.elastic(self.job) and alive >= self.kind.size(self.job)

    def _all_ended(self, now: float) -> bool:
        return all(self.ending(pod, now) is not None for pod in self.pods.values())

    def _failed(self, failures: list[Ending], message: str) -> Verdict:
        if not failures:
            return Verdict(kind="failed", message=message or "the job has failed, and none of its pods says why")
        kind = cause([ending.kind for ending in failures])
        ordered = sorted(failures, key=lambda ending: (ending.kind != kind, ending.at or "~", ending.node))
        return Verdict(kind=kind, message=ordered[0].message, endings=tuple(ordered))

    def _late(self, now: float) -> Verdict | None:
        assert self.job is not None
        deadline, size = self.kind.deadline(self.job), self.kind.size(self.job)
        if deadline is not None and now - self._since > deadline + _OPERATOR_SECONDS:
            text = f"the job is past its deadline of {deadline} s, and its operator has not ended it"
            return Verdict(kind="deadline", message=text)
        ran = {self.kind.node(self.pods[uid]) for uid in self._ran}
        if len(ran) < size and now - self._since > self._start:
            waited = f"{len(ran)} of {size} pods have run within {self._start:.0f} s"
            waiting = [self.pods[uid]["metadata"]["name"] for uid in self.pods.keys() - self._ran - self.gone]
            return Verdict(kind="failed", message=waited, waiting=(self.job["metadata"]["name"], *sorted(waiting)))
        return None

    def ending(self, pod: Object, now: float) -> Ending | None:
        """How a pod ended; None while it runs."""
        uid = pod["metadata"]["uid"]
        ended, previous = self._terminated(pod)
        reason = disruption(pod) or pod.get("status", {}).get("reason", "")
        if ended is not None:
            return self._judge(pod, ended, reason, previous)
        told = self._told_to_end.get(uid)
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
        overdue = told is not None and now - told[0] > grace + min(_OVERDUE_SECONDS, self._settle)
        phase = pod.get("status", {}).get("phase")
        if phase != "Failed" and uid not in self.gone and not overdue:
            return None
        why = reason or ("PodFailed" if phase == "Failed" else "the pod vanished")
        return Ending(
            pod=pod["metadata"]["name"],
            uid=uid,
            node=self.kind.node(pod),
            kind=classify(None, reason),
            message=self._sentence(pod, f"was lost ({why})"),
            deleted=reason == DELETED,
        )

    def _terminated(self, pod: Object) -> tuple[Object | None, bool]:
        """The end of the training container, and whether it was started again since."""
        for status in pod.get("status", {}).get("containerStatuses", []):
            if status["name"] == self.kind.container:
                now = status.get("state", {}).get("terminated")
                before = status.get("lastState", {}).get("terminated")
                return (now, False) if now else (before, True)
        return None, False

    def _judge(self, pod: Object, ended: Object, reason: str, previous: bool) -> Ending:
        report = Report.from_text(ended.get("message", ""))
        code = ended["exitCode"] if report is None else report.exit_code
        said = ended.get("reason", "")
        if said == "OOMKilled" or code in (0, EXIT_PREEMPTED):
            kind = classify(code, said)  # surer than why the pod had to go
        elif reason:
            kind = classify(code, reason)
        elif report is not None:
            kind = classify(code, report.reason)
        elif code == EXIT_KILLED:
            kind = "node_lost"  # killed whole, without time for a report
        else:
            kind = classify(code, said)
        why = ", ".join(text for text in (said, reason) if text and text not in ("Error", "Completed"))
        sentence = self._sentence(pod, f"ended with exit code {code}{f' ({why})' if why else ''}")
        if report is not None:
            sentence = f"{sentence}: {report.message}"
        return Ending(
            pod=pod["metadata"]["name"],
            uid=pod["metadata"]["uid"],
            node=self.kind.node(pod),
            kind=kind,
            message=sentence,
            exit_code=code,
            report=report,
            deleted=reason == DELETED,
            previous=previous,
            at=ended.get("finishedAt", ""),
        )

    def _sentence(self, pod: Object, what: str) -> str:
        return f"node {self.kind.node(pod)} (pod {pod['metadata']['name']}) {what}"


def disruption(pod: Object) -> str:
    """Why a pod is made to go, by its condition DisruptionTarget or its deletion; "" while it is not."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            reason: str = condition.get("reason", "")
            return reason or "EvictionByEvictionAPI"
    return DELETED if "deletionTimestamp" in pod["metadata"] else ""
