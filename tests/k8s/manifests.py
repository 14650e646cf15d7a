"""The overlays as `kubectl kustomize` builds them, and ways to find one's way in them."""

import functools
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("dev", "prod")
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")

Object = dict[str, Any]


@functools.cache
def _built(overlay: str) -> bytes:
    """Pickled: a copy of the objects takes a twentieth of reading the YAML again."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: apt-get install kubernetes-client, or see kubernetes.io")
    command = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return pickle.dumps(list(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))))


def build(overlay: str) -> list[Object]:
    """The objects of an overlay, fresh: a test may change them."""
    found: list[Object] = pickle.loads(_built(overlay))
    return found


def name(item: Object) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [item for item in objects if item["kind"] in kinds]


def find(objects: list[Object], kind: str, called: str) -> Object:
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == called]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(whose, pod template) of everything that runs."""
    for item in of_kind(objects, *WORKLOADS):
        spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
        yield name(item), spec["template"]
    for item in of_kind(objects, "Sensor"):
        for trigger in item["spec"]["triggers"]:
            yield f"Job of {name(item)}", trigger["template"]["k8s"]["source"]["resource"]["spec"]["template"]


def selects(selector: Object, labels: Object) -> bool:
    """Whether a label selector takes a pod with these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] in ("In", "Exists"), "the policies here use these two"
        if rule["key"] not in labels or (rule["operator"] == "In" and labels[rule["key"]] not in rule["values"]):
            return False
    return True
