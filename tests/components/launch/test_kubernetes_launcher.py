"""A job on a cluster from its submission to its end, each end there is, and nothing left of it afterwards."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from components.launch.outcomes import Outcome
from tests.components.launch.cluster_cases import (
    BRIEF,
    KINDS,
    cluster,
    job,
    launcher,
    nothing_left,
    run,
)
from tests.components.launch.kubernetes_api import Kubernetes
from tests.components.launch.kubernetes_jobs import finished

CRASHES = "import sys; print('epoch 1'); sys.exit('no such dataset')"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Kubernetes]:
    with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[Callable[..., Future[tuple[Outcome, list[str]]]]]:
    with ThreadPoolExecutor(1) as pool:
        yield lambda *arguments: pool.submit(run, *arguments)
        (tmp_path / "go").touch()  # also of a test that failed before: the pool waits for the job


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_succeeds_and_is_deleted(cloud: Kubernetes, shared: Path, tmp_path: Path, kind: str) -> None:
    cloud.definitions = shared
    (tmp_path / "go").touch()
    launch = launcher(cloud, kind)
    spec = job(tmp_path, nodes=2)
    launch.preflight(spec)
    outcome, lines = run(launch, spec)
    assert (outcome.kind, outcome.exit_code) == ("succeeded", 0)
    assert lines == ["node 0 trains", "node 0 is done"]
    launch.delete(spec.name)
    assert nothing_left(cloud)


def test_the_log_of_a_job_that_ended_before_its_pods_were_listed_is_read(cloud: Kubernetes, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    launch, lines = launcher(cloud), list[str]()
    name = launch.submit(job(tmp_path))
    cloud.until(lambda: finished(cloud.jobs()[0]))
    cloud.fail("list pods", 503, retry_after=1)
    assert launch.follow(name, lines.append).kind == "succeeded"
    assert lines == ["node 0 trains", "node 0 is done"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_says_who_and_why(cloud: Kubernetes, tmp_path: Path, kind: str) -> None:
    outcome, lines = run(launcher(cloud, kind), job(tmp_path, CRASHES))
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.message.startswith("node 0 (pod tr1-pretrain-a1-")
    assert outcome.logs["node 0"].endswith("no such dataset")
    assert lines[:2] == ["epoch 1", "no such dataset"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_evicted_pod_that_saved_is_preempted(
    cloud: Kubernetes, aside: Callable[..., Future], tmp_path: Path, kind: str
) -> None:
    given: list[str] = []
    ending = aside(launcher(cloud, kind), job(tmp_path, nodes=2), given)
    cloud.until(lambda: cloud.logged("trains", 2) and given)
    cloud.evict(*(pod["metadata"]["name"] for pod in cloud.pods()))
    outcome, lines = ending.result()
    assert (outcome.kind, outcome.exit_code) == ("preempted", 75)
    assert [line for line in lines if not line.startswith("[")] == ["node 0 trains", "saved"]


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory_counts_before_what_it_does_to_others(
    cloud: Kubernetes, aside: Callable[..., Future], tmp_path: Path, kind: str
) -> None:
    ending = aside(launcher(cloud, kind, BRIEF), job(tmp_path, nodes=2))
    cloud.until(lambda: cloud.logged("trains", 2))
    cloud.kill_for_memory(cloud.pods()[1]["metadata"]["name"])
    outcome, _ = ending.result()
    assert (outcome.kind, outcome.exit_code) == ("out_of_memory", 137)
    assert "node 1" in outcome.message and "OOMKilled" in outcome.message


def test_a_lost_node_is_told_from_its_mark_and_deleted_when_the_node_goes(
    cloud: Kubernetes, aside: Callable[..., Future], tmp_path: Path
) -> None:
    launch, spec = launcher(cloud, patience=BRIEF), job(tmp_path, nodes=2)
    ending = aside(launch, spec)
    cloud.until(lambda: cloud.logged("trains", 2))
    lost = cloud.pods()[1]["metadata"]["name"]
    cloud.lose_node(lost)
    outcome, _ = ending.result()
    assert (outcome.kind, outcome.exit_code) == ("node_lost", None)
    assert lost in outcome.message and "DeletionByTaintManager" in outcome.message
    deleting = threading.Thread(target=launch.delete, args=(spec.name,))
    deleting.start()
    cloud.until(lambda: [pod["metadata"]["name"] for pod in cloud.pods()] == [lost])
    assert deleting.is_alive() and cloud.jobs(), "the object of the job goes last"
    cloud.remove_node(lost)
    deleting.join()
    assert nothing_left(cloud)


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_is_the_operators(cloud: Kubernetes, tmp_path: Path, kind: str) -> None:
    outcome, _ = run(launcher(cloud, kind, deadline=1), job(tmp_path))
    assert outcome.kind == "deadline" and "deadline" in outcome.message


def test_a_job_that_somebody_deletes_is_cancelled(
    cloud: Kubernetes, aside: Callable[..., Future], tmp_path: Path
) -> None:
    spec = job(tmp_path)
    ending = aside(launcher(cloud), spec)
    cloud.until(lambda: cloud.logged("trains"))
    cloud.delete_job(spec.name)
    assert ending.result()[0].kind == "cancelled"
    cloud.until(lambda: nothing_left(cloud))


def test_pods_that_nobody_places_fail_with_their_events(cloud: Kubernetes, tmp_path: Path) -> None:
    cloud.hold("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    launch = launcher(cloud, no_pod=1)
    name = launch.submit(job(tmp_path, nodes=2))
    cloud.until(lambda: len(cloud.store.everywhere("events")) == 2)
    outcome = launch.follow(name, print)
    assert outcome.kind == "failed"
    assert outcome.message.startswith("0 of 2 pods have run within 1 s")
    assert "worker-1: FailedScheduling 0/3 nodes are available: 3 Insufficient nvidia.com/gpu." in outcome.message


def test_deleting_twice_and_what_never_was_is_nothing(cloud: Kubernetes, tmp_path: Path) -> None:
    launch, spec = launcher(cloud), job(tmp_path)
    launch.delete(spec.name)
    launch.submit(spec)
    launch.delete(spec.name)
    launch.delete(spec.name)
    assert nothing_left(cloud)


def test_an_elastic_job_goes_on_without_a_node(cloud: Kubernetes, aside: Callable[..., Future], tmp_path: Path) -> None:
    ending = aside(launcher(cloud), job(tmp_path, nodes=2, min_nodes=1))
    cloud.until(lambda: cloud.logged("trains", 2))
    lost = cloud.pods()[1]["metadata"]["name"]
    cloud.lose_node(lost)
    cloud.remove_node(lost)
    cloud.until(lambda: cloud.logged("node 1 trains"))  # the operator's new pod of that name
    (tmp_path / "go").touch()
    assert ending.result()[0].kind == "succeeded"
