"""Pods as they are: each runs torchrun, whose world the operator's environment describes, and leaves its report."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.launch.cluster import Patience
from components.launch.job import JobSpec
from components.launch.kubernetes import KubernetesLauncher
from components.launch.trainjob import runtime
from tests.components.launch.cluster_cases import nothing_left, run, settings
from tests.components.launch.kubernetes_api import Kubernetes
from tests.components.launch.small_jobs import no_rank_lives

PROGRAM = Path(__file__).with_name("small_rank.py")
PATIENCE = Patience(api=60, settle=5, log=60, delete=120, first=0.05, longest=0.5)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Kubernetes]:
    with Kubernetes(tmp_path) as made:
        made.add("trainingruntimes", runtime(settings("trainjob")))
        yield made


def job(folder: Path, behaviour: str, *, nodes: int, processes: int) -> JobSpec:
    command = (str(PROGRAM), behaviour, str(folder))
    return JobSpec(run="r1", step="pretrain", command=command, nodes=nodes, processes=processes)


def launcher(cloud: Kubernetes, kind: str) -> KubernetesLauncher:
    return KubernetesLauncher(cloud.client(), settings(kind), PATIENCE)


@pytest.mark.slow
def test_the_rank_that_failed_on_another_node_is_named_with_its_last_lines(cloud: Kubernetes, tmp_path: Path) -> None:
    launch, spec = launcher(cloud, "trainjob"), job(tmp_path, "fails", nodes=2, processes=1)
    outcome, lines = run(launch, spec)
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert "node 1" in outcome.message and "ValueError" in outcome.message
    assert outcome.logs["1"].endswith("ValueError: sample 17 holds no image")
    assert "[rank 1] ValueError: sample 17 holds no image" in lines
    assert any("rank 0 of 2" in line for line in lines)
    launch.delete(spec.name)
    assert nothing_left(cloud) and no_rank_lives(tmp_path)


@pytest.mark.slow
def test_ranks_of_an_evicted_pod_save_before_it_goes(cloud: Kubernetes, tmp_path: Path) -> None:
    launch, spec = launcher(cloud, "pytorchjob"), job(tmp_path, "saves", nodes=1, processes=2)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(run, launch, spec)
        cloud.until(lambda: cloud.logged("ready"), seconds=120)
        cloud.until(lambda: len(list(tmp_path.glob("pid-*"))) == 2, seconds=120)
        cloud.evict(cloud.pods()[0]["metadata"]["name"])
        outcome, _ = ending.result()
    assert (outcome.kind, outcome.exit_code) == ("preempted", 75)
    launch.delete(spec.name)
    assert nothing_left(cloud) and no_rank_lives(tmp_path)
