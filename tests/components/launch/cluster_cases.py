"""What tests of the Kubernetes launcher share: a cluster whose pods are one small Python each."""

import sys
from dataclasses import replace
from pathlib import Path

from components.launch.cluster import Patience
from components.launch.job import JobSpec
from components.launch.kubernetes import KubernetesLauncher
from components.launch.outcomes import Outcome
from components.launch.settings import ClusterSettings, Limits, Resources, Shared
from components.launch.trainjob import runtime
from tests.components.launch.kubernetes_api import NAMESPACE, Kubernetes
from tests.components.launch.kubernetes_store import Object

# `settle` is longer than a process that has to end may stand still; it is waited for where the operator was so quick
# that it has made a new pod already.
PATIENCE = Patience(api=120, settle=10, log=120, delete=120, first=0.02, longest=0.2)
BRIEF = replace(PATIENCE, settle=1)  # where pods go on after the first has failed: they are not waited for
KINDS = ("pytorchjob", "trainjob")
# A rank that saves and says so when it is told to stop, and otherwise trains until the file GO is there.
TRAINS = """
import os, signal, sys, time
def stop(number, frame):
    print("saved", flush=True)
    os._exit(75)
signal.signal(signal.SIGTERM, stop)
print("node", os.environ["NODE"], "trains", flush=True)
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
print("node", os.environ["NODE"], "is done", flush=True)
"""


def without_torchrun(pod: Object, command: list[str], environment: dict[str, str]) -> list[str]:
    """Runs the spec's command as the pod's one process, which knows its NODE."""
    labels = pod["metadata"]["labels"]
    numbers = ("training.kubeflow.org/replica-index", "batch.kubernetes.io/job-completion-index")
    environment["NODE"] = next(labels[number] for number in numbers if number in labels)
    return [sys.executable, "-I", "-S", "-u", *command[command.index("--") + 1 :]]


def settings(kind: str = "pytorchjob", *, no_pod: int = 600, deadline: int = 3600) -> ClusterSettings:
    return ClusterSettings(
        job="trainjob" if kind == "trainjob" else "pytorchjob",
        namespace=NAMESPACE,
        resources=Resources(gpus=0, cpu="1", memory="1Gi", shm="64Mi"),
        storage=Shared(url="s3://lingbot"),
        limits=Limits(no_pod=no_pod, deadline=deadline),
    )


def cluster(folder: Path, shared: Path | None = None) -> Kubernetes:
    made = Kubernetes(folder, command=without_torchrun, definitions=shared)
    made.add("trainingruntimes", runtime(settings("trainjob")))
    return made


def launcher(
    cluster: Kubernetes, kind: str = "pytorchjob", patience: Patience = PATIENCE, **limits: int
) -> KubernetesLauncher:
    return KubernetesLauncher(cluster.client(), settings(kind, **limits), patience)


def job(folder: Path, code: str = TRAINS, *, nodes: int = 1, min_nodes: int = 0, attempt: int = 1) -> JobSpec:
    return JobSpec(
        run="r1",
        step="pretrain",
        attempt=attempt,
        command=("-c", code),
        nodes=nodes,
        min_nodes=min_nodes,
        environment={"GO": str(folder / "go")},
    )


def run(launcher: KubernetesLauncher, spec: JobSpec, lines: list[str] | None = None) -> tuple[Outcome, list[str]]:
    """Submits and follows a job to its end: its outcome and the lines it gave, which come into `lines`."""
    lines = [] if lines is None else lines
    return launcher.follow(launcher.submit(spec), lines.append), lines


def nothing_left(cluster: Kubernetes) -> bool:
    if cluster.jobs() or cluster.pods():
        return False
    cluster.until(lambda: cluster.kubelet.alive() == [])  # what was killed takes a moment to go
    return True
