"""The whole of it: the pretrain step on a cluster of two nodes, one of which is taken away in the middle."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.artifacts import SCRATCH
from components.train import pretrain
from tests.components.launch.cluster_cases import nothing_left
from tests.components.launch.kubeconfig import write_kubeconfig
from tests.components.launch.kubernetes_api import NAMESPACE, Kubernetes
from tests.components.training_inputs import training_inputs
from tests.heard import Heard


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    """A cluster that the user's kubeconfig names, with a claim that is mounted here too."""
    kubeconfig = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Kubernetes(tmp_path) as made:
        modes = {"accessModes": ["ReadWriteMany"]}
        made.add(
            "persistentvolumeclaims", {"metadata": {"name": "shared"}, "spec": modes, "status": {"phase": "Bound"}}
        )
        write_kubeconfig(kubeconfig, made.url)
        yield made


@pytest.mark.soak
def test_a_training_on_a_cluster_outlives_the_eviction_of_a_node(cloud: Kubernetes, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    settings = {
        "namespace": NAMESPACE,
        "resources": {"gpus": 0, "cpu": 1, "memory": "2Gi", "shm": "64Mi"},
        "storage": {"claim": "shared", "mount": str(tmp_path)},
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(settings))
    parameters = pretrain.Parameters(
        preset="debug",
        horizon=6,
        steps=24,
        batch_size=4,
        draws=2,
        warmup_steps=1,
        save_every=2,
        precision="fp32",
        nodes=2,
        cluster=str(tmp_path / "cluster.yaml"),
    )

    def evict() -> None:
        while not list(output.glob("checkpoints/*/.complete")):
            if ended.wait(0.05):
                return
        cloud.evict(next(pod["metadata"]["name"] for pod in cloud.pods()))

    heard, ended, evicting = Heard(), threading.Event(), threading.Thread(target=evict)
    evicting.start()
    try:
        pretrain.run(training_inputs(tmp_path / "inputs"), output, parameters, heard)
    finally:
        ended.set()
        evicting.join()
    said = [message for message in heard.messages if message.startswith("attempt")]
    assert [message.split(":")[:2] for message in said] == [["attempt 1", " preempted"], ["attempt 2", " succeeded"]]
    written = {path.name for path in output.iterdir()} - {SCRATCH}
    assert written == {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl"}
    assert nothing_left(cloud)
