"""A compiled pipeline as Kubeflow will read it: both documents parsed strictly, its size and its fan-out."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from model.errors import UserError

# The API server passes a pipeline through etcd, whose limit for a request is 1.5 MB.
MAX_BYTES = 1_000_000
# Each item of a loop is a pod and a row of the workflow's status, which etcd holds as well (kfp #9837). What has more
# parts handles them inside of a step.
MAX_FAN_OUT = 50


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline and its platform part (empty where no step needs one), as mappings."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    pipeline, *platform = yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader)
    return pipeline, platform[0] if platform else {}


def check(path: Path) -> None:
    """Reads a compiled pipeline as strictly as can be.

    Raises:
        google.protobuf.json_format.ParseError: a field that Kubeflow does not have: our own mistake.
        UserError: it is too large, or a loop has too many items.
    """
    from google.protobuf import json_format
    from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
    from kfp.pipeline_spec import pipeline_spec_pb2

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{path} has {size:,} bytes, and etcd takes {MAX_BYTES:,}: shorten parameters or loops")
    pipeline, platform = load(path)
    json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    for config in pods(platform).values():
        json_format.ParseDict(config, KubernetesExecutorConfig())
    for name, count in fan_outs(pipeline):
        if count > MAX_FAN_OUT:
            raise UserError(
                f"the loop '{name}' of {path.name} has {count} items, at most {MAX_FAN_OUT} are taken: "
                "ask for fewer, or handle several in one step"
            )


def pods(platform: Mapping[str, Any]) -> dict[str, Any]:
    """Executor -> what Kubernetes is told about its pod."""
    deployment = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
    found: dict[str, Any] = deployment.get("executors", {})
    return found


def fan_outs(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Every loop with the number of its items, as far as it is known before the pipeline runs."""
    defaults = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
    dags = [pipeline["root"], *pipeline.get("components", {}).values()]
    for dag in dags:
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            items = task.get("parameterIterator", {}).get("items", {})
            if "raw" in items:
                yield name, len(json.loads(items["raw"]))
            elif "inputParameter" in items:
                given = task["inputs"]["parameters"][items["inputParameter"]].get("componentInputParameter")
                yield name, len(defaults.get(given, {}).get("defaultValue", ()))
