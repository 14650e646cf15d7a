"""Who reaches whom, all of it: what has to flow flows, and nothing else does."""

import pytest

from components.launch.settings import load_settings
from pipelines.profile import load_profile
from tests.k8s.generated import SETTINGS
from tests.k8s.manifests import OVERLAYS, Object, build, of_kind
from tests.k8s.traffic import Peer, allowed, elsewhere, here, templates

SSH = "22"
PORTS = {
    "lingbot-endpoint": ("8000", "9400"),
    "lingbot-mlflow": ("5000",),
    "lingbot-postgres": ("5432",),
    "lingbot-event-bus": ("4222", "6222", "8222"),
}
# Any port: NCCL chooses its own. Another namespace stands for all that have no label of ours.
TRAINING_PORTS = ("29500", "41234")
ELSEWHERE = [
    elsewhere("robots", lingbot__robots="true"),
    elsewhere("runs", lingbot__pipelines="true"),
    elsewhere("monitoring", "9090"),
    elsewhere("argo-events", "7777"),
    elsewhere("kube-system", "53/UDP", "53", "6443"),
    elsewhere("kubeflow", "8080", "8887", "8888", "9000"),
    elsewhere("minio", "9000", "9001"),
    elsewhere("stranger", "443", "8000"),
    Peer(name="internet", address="203.0.113.7", ports=("443", "80", "6443")),
    Peer(name="cluster address", address="10.96.0.1", ports=("443", "6443", "80")),
    Peer(name="node's metadata", address="169.254.169.254", ports=("443", "80")),
]
STORE = {"dev": ["minio:9000"], "prod": ["internet:443"]}
API = ["internet:443", "internet:6443", "cluster address:443", "cluster address:6443"]
KUBEFLOW = ["kubeflow:8080", "kubeflow:8887", "kubeflow:8888", "kubeflow:9000"]
BUS = ["lingbot-event-bus:4222", "lingbot-event-bus:6222"]


def everybody(objects: list[Object]) -> list[Peer]:
    labels = templates(objects)
    # As pipelines/pod.py labels a step's pod, and Kubeflow every pod of a run.
    step = {**load_profile("cluster").labels, "lingbot/step": "pack", "pipeline/runid": "7c1f"}
    return [
        *(here(name, labels[name], *PORTS.get(name, ()), SSH) for name in sorted(labels)),
        here("training", dict(load_settings(SETTINGS).labels), *TRAINING_PORTS),
        here("step", step, "8080"),
        here("pod of nobody", {}, "8080"),
        *ELSEWHERE,
    ]


def wanted(overlay: str) -> dict[str, list[str]]:
    store = STORE[overlay]
    ours = {
        "lingbot-endpoint": ["lingbot-mlflow:5000", *store],
        "lingbot-mlflow": ["lingbot-postgres:5432", *store],
        "lingbot-postgres": [],
        "lingbot-event-bus": BUS,
        "lingbot-event-source": ["lingbot-event-bus:4222", *store],
        "lingbot-event-sensor": ["lingbot-event-bus:4222", *API],
        "lingbot-trigger": ["kubeflow:8888", *store],
        "training": ["training:29500", "training:41234", "lingbot-mlflow:5000", *store],
        "step": [*KUBEFLOW, "lingbot-mlflow:5000", *API, *store],
        "pod of nobody": [],
    }
    dns = ["kube-system:53", "kube-system:53/UDP"]
    return {sender: [*dns, *receivers] for sender, receivers in ours.items()} | {
        "robots": ["lingbot-endpoint:8000"],
        "runs": ["lingbot-mlflow:5000"],
        "monitoring": ["lingbot-endpoint:9400"],
        "argo-events": [*BUS, "lingbot-event-bus:8222"],
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_reaches_whom(overlay: str) -> None:
    objects = build(overlay)
    expected = {f"{sender} -> {receiver}" for sender, receivers in wanted(overlay).items() for receiver in receivers}
    found = allowed(objects, everybody(objects))
    assert {"open": sorted(found - expected), "shut": sorted(expected - found)} == {"open": [], "shut": []}


def test_every_policy_carries_its_part() -> None:
    objects = build("prod")
    peers = everybody(objects)
    whole = allowed(objects, peers)
    for policy in of_kind(objects, "NetworkPolicy"):
        rest = [item for item in objects if item is not policy]
        assert allowed(rest, peers) != whole, f"{policy['metadata']['name']} changes nothing"
