"""A compiled pipeline as Kubeflow will read it: written, both documents parsed strictly, its size and its fan-out."""

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


def write(pipeline: Any, path: Path) -> None:
    """Writes what kfp's compiler writes, the same bytes each time, and with libyaml.

    kfp lists the defaults of the inputs in a comment, in the order of protobuf's maps, which differs from process to
    process; its dumper takes ten times as long.

    Args:
        pipeline: what a function that `dsl.pipeline` decorates is.
        path: of the file.

    Raises:
        UserError: the file cannot be written.
    """
    from google.protobuf import json_format
    from kfp.compiler.pipeline_spec_builder import extract_comments_from_pipeline_spec

    spec = _sorted(json_format.MessageToDict(pipeline.pipeline_spec))
    documents = [spec]
    if pipeline.platform_spec.platforms:
        documents.append(json_format.MessageToDict(pipeline.platform_spec))
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    comment = extract_comments_from_pipeline_spec(spec, pipeline.description)
    text = comment + yaml.dump_all(documents, Dumper=dumper, sort_keys=True)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): give another folder with --output") from error


def _sorted(value: Any) -> Any:
    """The value with the keys of all mappings in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


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
    dags = [pipeline["root"], *pipeline.get("components", {}).values()]
    for dag in dags:
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            count = _items(pipeline, task)
            if count is not None:
                yield name, count


def leaves(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Every task that is a container, with how often the loop that it is in goes round; None outside of loops."""

    def walk(dag: Mapping[str, Any], rounds: int | None) -> Iterator[tuple[str, int | None]]:
        for task in dag["tasks"].values():
            component = pipeline["components"][task["componentRef"]["name"]]
            count = _items(pipeline, task)
            inner = rounds if count is None else count * (1 if rounds is None else rounds)
            if "dag" in component:
                yield from walk(component["dag"], inner)
            else:
                yield task["taskInfo"]["name"], inner

    return walk(pipeline["root"]["dag"], None)


def inputs(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline's inputs with their defaults."""
    defined = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
    return {name: values["defaultValue"] for name, values in defined.items() if "defaultValue" in values}


def _items(pipeline: Mapping[str, Any], task: Mapping[str, Any]) -> int | None:
    """How many items the loop of a task has; None where it is no loop."""
    items = task.get("parameterIterator", {}).get("items", {})
    if "raw" in items:
        return len(json.loads(items["raw"]))
    if "inputParameter" in items:
        given = task["inputs"]["parameters"][items["inputParameter"]].get("componentInputParameter")
        return len(inputs(pipeline).get(given, ()))
    return None
