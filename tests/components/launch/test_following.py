"""What a job that is followed is judged to be, from what the API says of it and of its pods."""

from pathlib import Path
from typing import Any

import pytest

from components.launch.following import Followed
from components.launch.kinds import PYTORCHJOB
from components.launch.outcomes import Kind, Report
from components.launch.pytorchjob import build
from tests.components.launch.cluster_cases import job as spec_of
from tests.components.launch.cluster_cases import settings
from tests.components.launch.kubernetes_store import Object

START, SETTLE = 600.0, 10.0


def a_job(*conditions: tuple[str, str, str], nodes: int = 2, min_nodes: int = 0) -> Object:
    made = build(spec_of(Path("x"), nodes=nodes, min_nodes=min_nodes), settings())
    said = [
        {"type": kind, "status": "True", "reason": reason, "message": message} for kind, reason, message in conditions
    ]
    return made | {"status": {"conditions": said}}


def a_pod(node: int, state: Object | None = None, *, uid: str = "", **more: Any) -> Object:
    """Running, unless `state` is its container's; `more` is of its status, `deletion` of its metadata."""
    phase = "Running" if state is None or "running" in state else "Failed"
    metadata: Object = {
        "name": f"job-worker-{node}",
        "uid": uid or f"uid-{node}",
        "labels": {PYTORCHJOB.name_label: "job", PYTORCHJOB.index_label: str(node)},
    }
    if more.pop("deletion", False):
        metadata |= {"deletionTimestamp": "2026-11-22T12:00:00Z", "deletionGracePeriodSeconds": 1}
    container = {"name": "pytorch", "state": state or {"running": {}}, "restartCount": 0}
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": [container], **more}}


def ended(code: int, reason: str = "Error", report: Report | None = None, at: int = 0) -> Object:
    message = {} if report is None else {"message": report.to_bytes().decode()}
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": f"2026-11-22T12:00:{at:02}Z", **message}}


def disrupted(reason: str) -> Object:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]}


def followed(*pods: Object, job: Object | None = None) -> Followed:
    made = Followed(PYTORCHJOB, start=START, settle=SETTLE, now=0.0)
    made.see_job("LISTED", [a_job() if job is None else job], 0.0)
    made.see_pods("LISTED", list(pods), 0.0)
    return made


def kind_of(*pods: Object, job: Object | None = None) -> Kind | None:
    """After the others had their time to end."""
    made = followed(*pods, job=job)
    made.verdict(0.0)
    verdict = made.verdict(SETTLE)
    return None if verdict is None else verdict.kind


SAVED = Report(exit_code=75, rank=0, message="rank 0 has saved")
KILLED_RANK = Report(exit_code=137, rank=3, message="rank 3 was ended by SIGKILL")
TORCH_MEMORY = Report(exit_code=1, rank=2, reason="OutOfMemoryError", message="rank 2 failed")
LOST_PEER = Report(exit_code=1, rank=0, reason="DistNetworkError", message="rank 0 failed")
WRONG = Report(exit_code=1, rank=1, reason="ValueError", message="rank 1 failed")

ENDS: dict[str, tuple[Kind, Object]] = {
    "a crash": ("failed", a_pod(1, ended(1))),
    "its report says more than its code": ("failed", a_pod(1, ended(1, report=WRONG))),
    "the kernel's killer": ("out_of_memory", a_pod(1, ended(137, "OOMKilled"))),
    "one rank killed, reported": ("out_of_memory", a_pod(1, ended(137, report=KILLED_RANK))),
    "torch's allocator": ("out_of_memory", a_pod(1, ended(1, report=TORCH_MEMORY))),
    "killed whole, without a report": ("node_lost", a_pod(1, ended(137))),
    "told to end, saved nothing": ("node_lost", a_pod(1, ended(143))),
    "saved": ("preempted", a_pod(1, ended(75, report=SAVED))),
    "saved before its eviction": ("preempted", a_pod(1, ended(75, report=SAVED), **disrupted("EvictionByEvictionAPI"))),
    "memory before eviction": ("out_of_memory", a_pod(1, ended(137, "OOMKilled"), **disrupted("DeletionByPodGC"))),
    "evicted, failed on the way": ("node_lost", a_pod(1, ended(1, report=WRONG), **disrupted("PreemptionByScheduler"))),
    "a full disk of its node": ("node_lost", a_pod(1, ended(137), reason="Evicted")),
    "its node's shutdown": ("node_lost", a_pod(1, {"waiting": {}}, reason="Terminated")),
    "a node nobody hears of": ("node_lost", a_pod(1, ended(137, "ContainerStatusUnknown"))),
    "the connection to another": ("node_lost", a_pod(1, ended(1, report=LOST_PEER))),
}


@pytest.mark.parametrize(("wanted", "pod"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_pod_is_the_end_of_the_attempt(wanted: Kind, pod: Object) -> None:
    assert kind_of(a_pod(0), pod) == wanted


def test_a_job_goes_on_while_nothing_has_failed() -> None:
    assert kind_of(a_pod(0), a_pod(1, ended(0, "Completed"))) is None


def test_the_cause_counts_and_not_what_it_did_to_others() -> None:
    made = followed(a_pod(0, ended(1, report=WRONG, at=1)), a_pod(1, ended(137, "OOMKilled", at=2)))
    verdict = made.verdict(0.0)
    assert verdict is not None and verdict.kind == "out_of_memory"
    assert [ending.node for ending in verdict.endings] == [1, 0]
    assert verdict.message == "node 1 (pod job-worker-1) ended with exit code 137 (OOMKilled)"


def test_pods_have_a_moment_to_say_how_they_ended() -> None:
    made = followed(a_pod(0), a_pod(1, ended(1)))
    assert made.verdict(0.0) is None and made.verdict(SETTLE - 1) is None
    made.see_pods("MODIFIED", a_pod(0, ended(137, "OOMKilled")), SETTLE - 1)
    verdict = made.verdict(SETTLE - 1)
    assert verdict is not None and verdict.kind == "out_of_memory", "all have ended: no need to wait on"


def test_pods_that_the_operator_clears_away_after_a_failure_are_not_the_cause() -> None:
    made = followed(a_pod(0), a_pod(1, ended(1, report=WRONG)))
    made.see_pods("MODIFIED", a_pod(0, deletion=True), 1.0)
    made.see_pods("MODIFIED", a_pod(0, ended(143), deletion=True), 2.0)
    verdict = made.verdict(2.0)
    assert verdict is not None and verdict.kind == "failed"
    assert [ending.node for ending in verdict.endings] == [1]


def test_a_pod_that_was_deleted_before_the_others_failed_is_the_cause() -> None:
    made = followed(a_pod(0), a_pod(1))
    made.see_pods("MODIFIED", a_pod(0, deletion=True), 1.0)
    made.see_pods("MODIFIED", a_pod(0, ended(143), deletion=True), 2.0)
    made.see_pods("MODIFIED", a_pod(1, ended(1, report=WRONG)), 3.0)
    verdict = made.verdict(3.0)
    assert verdict is not None and verdict.kind == "node_lost"


def test_what_an_operator_puts_in_the_place_of_a_lost_pod_does_not_hide_it() -> None:
    made = followed(a_pod(0), a_pod(1))
    made.see_pods("DELETED", a_pod(1), 1.0)
    made.see_pods("ADDED", a_pod(1, uid="another"), 2.0)
    assert made.verdict(2.0) is None
    verdict = made.verdict(2.0 + SETTLE)
    assert verdict is not None and verdict.kind == "node_lost"


def test_a_pod_missing_from_a_list_is_gone() -> None:
    made = followed(a_pod(0), a_pod(1))
    made.see_pods("LISTED", [a_pod(0)], 1.0)
    made.verdict(1.0)
    verdict = made.verdict(1.0 + SETTLE)
    assert verdict is not None and verdict.kind == "node_lost"


def test_a_pod_missing_from_a_list_is_unexplained_until_an_event_tells_its_end() -> None:
    made = followed(a_pod(0), a_pod(1))
    assert not made.unexplained()
    made.see_pods("LISTED", [a_pod(0)], 1.0)
    assert made.unexplained()
    made.see_pods("MODIFIED", a_pod(1, ended(75)), 2.0)
    assert not made.unexplained(), "its end is told, its deletion not yet"


def test_a_pod_whose_deletion_is_told_is_not_unexplained() -> None:
    made = followed(a_pod(0), a_pod(1))
    made.see_pods("LISTED", [a_pod(0)], 1.0)
    made.see_pods("DELETED", a_pod(1), 2.0)
    assert not made.unexplained(), "nobody will tell more"


def test_a_marked_pod_that_never_ends_is_lost_after_its_grace_time() -> None:
    made = followed(a_pod(0), a_pod(1, **disrupted("DeletionByTaintManager")))
    assert made.verdict(30.0) is None, "its grace time is 30 s where it is not told"
    made.verdict(30.1 + SETTLE)
    verdict = made.verdict(30.1 + 2 * SETTLE)
    assert verdict is not None and verdict.kind == "node_lost"


def test_an_elastic_job_goes_on_with_the_least_of_its_nodes() -> None:
    made = followed(a_pod(0), a_pod(1), job=a_job(min_nodes=1))
    made.see_pods("MODIFIED", a_pod(1, **disrupted("DeletionByTaintManager")), 1.0)
    assert made.verdict(1.0) is None and made.verdict(1000.0) is None
    made.see_pods("DELETED", a_pod(0), 1001.0)
    verdict = made.verdict(1001.0)
    assert verdict is not None and verdict.kind == "node_lost"


def test_an_elastic_job_does_not_go_on_without_what_crashed() -> None:
    assert kind_of(a_pod(0), a_pod(1, ended(1)), job=a_job(min_nodes=1)) == "failed"


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        (("Succeeded", "PyTorchJobSucceeded", "done"), "succeeded"),
        (
            ("Failed", "PyTorchJobFailed", "Job x has failed because it was active longer than specified deadline"),
            "deadline",
        ),
        (("Failed", "DeadlineExceeded", "TrainJob exceeded"), "deadline"),
        (("Failed", "PyTorchJobFailed", "Worker replicas 2 exceed the quota"), "failed"),
        (("Running", "PyTorchJobRunning", "runs"), None),
    ],
)
def test_conditions_of_the_job(condition: tuple[str, str, str], wanted: Kind | None) -> None:
    assert kind_of(a_pod(0), a_pod(1), job=a_job(condition)) == wanted


def test_a_job_that_nobody_starts_fails_in_its_time_and_names_what_waits() -> None:
    made = followed(a_pod(0), a_pod(1, {"waiting": {}}) | {"status": {"phase": "Pending"}})
    assert made.verdict(START) is None
    verdict = made.verdict(START + 1)
    assert verdict is not None and verdict.kind == "failed"
    assert verdict.message == "1 of 2 pods have run within 600 s"
    assert verdict.waiting[1:] == ("job-worker-1",)


def test_time_in_a_queue_is_not_time_to_start() -> None:
    made = followed(job=a_job(("Suspended", "Suspended", "waits for quota")))
    assert made.verdict(99 * START) is None
    made.see_job("MODIFIED", a_job(), 99 * START)
    assert made.verdict(100 * START) is None
    assert made.verdict(100 * START + 1) is not None


def test_a_job_past_its_deadline_that_no_operator_ends_is_ended_here() -> None:
    made = followed(a_pod(0), a_pod(1))
    assert made.verdict(3600.0 + 600.0) is None
    verdict = made.verdict(3600.0 + 601.0)
    assert verdict is not None and verdict.kind == "deadline"


@pytest.mark.parametrize("event", ["LISTED", "DELETED"])
def test_a_job_that_is_gone_was_cancelled(event: str) -> None:
    made = followed(a_pod(0))
    made.see_job(event, [] if event == "LISTED" else a_job(), 1.0)
    verdict = made.verdict(1.0)
    assert verdict is not None and verdict.kind == "cancelled"
