"""Whole runs on a cluster: attempts, back-off, a launcher that is cancelled or killed; never an orphan."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.launch.cluster import Patience
from components.launch.kubernetes import KubernetesLauncher
from components.launch.outcomes import Outcome
from components.launch.supervise import Cancellation, Retries, supervise
from tests.components.launch.cluster_cases import BRIEF, KINDS, PATIENCE, cluster, job, launcher, nothing_left
from tests.components.launch.kubernetes_api import Kubernetes

ROOT = Path(__file__).parents[3]
RETRIES = Retries(node_lost=2, preempted=2, first_seconds=0.1, longest_seconds=0.2)


@dataclass(frozen=True)
class Supervised:
    """A job under supervision, and the lines that its launcher has given so far."""

    outcome: Future[Outcome]
    lines: list[str]

    def trains(self, cloud: Kubernetes, number: int) -> bool:
        """Whether that attempt trains on both nodes and the launcher follows it: what happens to pods that it has not
        seen yet is the operator's to mend, in the same attempt."""
        return cloud.logged("trains", 2, pods=f"-a{number}-") and self.lines.count("node 0 trains") >= number


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Kubernetes]:
    with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def supervised(cloud: Kubernetes, tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Starts a supervised job of two nodes."""

    def run(launch: KubernetesLauncher, lines: list[str]) -> Outcome:
        spec = job(tmp_path, nodes=2)
        with Cancellation() as cancelled:
            return supervise(launch, spec, retries=RETRIES, on_line=lines.append, cancelled=cancelled)

    def start(kind: str = "pytorchjob", patience: Patience = PATIENCE) -> Supervised:
        lines: list[str] = []
        return Supervised(pool.submit(run, launcher(cloud, kind, patience), lines), lines)

    with ThreadPoolExecutor(1) as pool:
        yield start
        (tmp_path / "go").touch()  # a test that failed on the way does not wait for ever


def names(cloud: Kubernetes) -> list[str]:
    return [pod["metadata"]["name"] for pod in cloud.pods()]


@pytest.fixture
def process(cloud: Kubernetes, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A launcher whose job of one node trains."""
    command = [sys.executable, "-m", "tests.components.launch.supervise_on_cluster", cloud.url, str(tmp_path), "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            cloud.until(lambda: cloud.logged("trains"))
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_preempted_goes_on_at_once_as_the_next_attempt(
    cloud: Kubernetes, supervised: Callable[..., Supervised], tmp_path: Path, kind: str
) -> None:
    supervision = supervised(kind)
    cloud.until(lambda: supervision.trains(cloud, 1))
    cloud.evict(*names(cloud), reason="PreemptionByScheduler")
    cloud.until(lambda: supervision.trains(cloud, 2))
    (tmp_path / "go").touch()
    assert supervision.outcome.result().kind == "succeeded"
    assert "node 0 is done" in supervision.lines
    assert [line.partition(": node")[0] for line in supervision.lines if line.startswith("attempt 1")] == [
        "attempt 1: preempted"
    ]
    assert nothing_left(cloud)


def test_a_lost_node_is_tried_again_after_a_pause(
    cloud: Kubernetes, supervised: Callable[..., Supervised], tmp_path: Path
) -> None:
    supervision = supervised(patience=BRIEF)
    cloud.until(lambda: supervision.trains(cloud, 1))
    lost = names(cloud)[0]
    cloud.lose_node(lost)
    cloud.until(lambda: names(cloud) == [lost])
    cloud.remove_node(lost)
    cloud.until(lambda: supervision.trains(cloud, 2))
    (tmp_path / "go").touch()
    assert supervision.outcome.result().kind == "succeeded"
    assert "attempt 2 starts in 0 s" in supervision.lines
    assert nothing_left(cloud)


def test_out_of_memory_is_final(cloud: Kubernetes, supervised: Callable[..., Supervised]) -> None:
    supervision = supervised(patience=BRIEF)
    cloud.until(lambda: supervision.trains(cloud, 1))
    cloud.kill_for_memory(names(cloud)[1])
    assert supervision.outcome.result().kind == "out_of_memory"
    assert nothing_left(cloud)
    assert cloud.wire.requests.count("create pytorchjobs") == 2, "the dry run and one job"


def test_a_launcher_that_is_told_to_stop_deletes_its_job(cloud: Kubernetes, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=120)[0].splitlines()[-1] == "cancelled"
    assert nothing_left(cloud)


def test_a_launcher_that_was_killed_is_followed_by_one_that_finds_its_job(
    cloud: Kubernetes, process: subprocess.Popen[str], tmp_path: Path
) -> None:
    process.kill()
    process.communicate()
    (running,) = cloud.jobs()
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        (tmp_path / "go").touch()

    with Cancellation() as cancelled:
        outcome = supervise(launcher(cloud), job(tmp_path), retries=RETRIES, on_line=on_line, cancelled=cancelled)
    assert outcome.kind == "succeeded"
    assert lines[:2] == [f"found attempt 1 of this job: {running['metadata']['name']}", "node 0 trains"]
    assert len(cloud.kubelet.groups) == 1, "one pod was ever started"
    assert nothing_left(cloud)
