"""The published shapes of Kubeflow Pipelines' API, read out of the client that is generated from them (kfp-server-api).

Every operation with its method, path, query, and the models of its body and answer. The stand-in has no path of its
own, and what it is sent and what it answers is built as those models, so that an unknown field fails the test.
"""

import functools
import inspect
import json
import re
from dataclasses import dataclass
from typing import Any

import kfp_server_api
from kfp_server_api import ApiClient

SERVICES = (
    kfp_server_api.ExperimentServiceApi,
    kfp_server_api.HealthzServiceApi,
    kfp_server_api.PipelineServiceApi,
    kfp_server_api.PipelineUploadServiceApi,
    kfp_server_api.RecurringRunServiceApi,
    kfp_server_api.RunServiceApi,
)


class Plain(ApiClient):
    """Gives the models that it makes its own configuration. Each would make one for itself, and with that empty the
    caches of all loggers: two thirds of the time that an answer took."""

    def _ApiClient__deserialize_model(self, data: Any, klass: Any) -> Any:
        if not klass.openapi_types:
            return data
        given = {
            name: self._ApiClient__deserialize(data[key], klass.openapi_types[name])
            for name, key in klass.attribute_map.items()
            if key in (data or ())
        }
        return klass(**given, local_vars_configuration=self.configuration)


PLAIN = Plain()


@dataclass(frozen=True)
class Operation:
    """One operation: `name` as in create_run."""

    name: str
    method: str
    path: re.Pattern[str]
    query: frozenset[str]
    body: str  # the model; empty: none
    answer: str


@dataclass
class Reply:
    """What `ApiClient.deserialize` takes."""

    data: str


@functools.cache
def operations() -> tuple[Operation, ...]:
    found = [
        _operation(name.removesuffix("_with_http_info"), inspect.getsource(method))
        for service in SERVICES
        for name, method in inspect.getmembers(service, inspect.isfunction)
        if name.endswith("_with_http_info")
    ]
    # A path with a fixed end before one that takes anything there.
    return tuple(sorted(found, key=lambda operation: operation.path.pattern.count("(")))


def _operation(name: str, source: str) -> Operation:
    path, method = re.search(r"call_api\(\s*'([^']+)', '(\w+)'", source).groups()  # type: ignore[union-attr]
    body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
    kind = re.search(rf":type {body[1]}: (\w+)", source) if body else None
    answer = re.search(r"response_type='(\w+)'", source)
    assert answer is not None and (body is None) == (kind is None), name
    pattern = re.sub(r"\{[\w.]+\}", lambda found: f"(?P<{found[0][1:-1].split(chr(46))[-1]}>[^/:]+)", path)
    return Operation(
        name=re.sub(r"^\w+?_service_(?=[a-z]+_)", "", name),
        method=method,
        path=re.compile(pattern),
        query=frozenset(re.findall(r"query_params.append\(\('(\w+)'", source)),
        body=kind[1] if kind else "",
        answer=answer[1],
    )


def find(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    for operation in operations():
        match = operation.path.fullmatch(path)
        if match and operation.method == method:
            return operation, match.groupdict()
    return None


def build(model: str, values: Any) -> Any:
    """A model from JSON, every field checked.

    Raises:
        ValueError: a field that the model has not, or a value that it does not take.
    """
    made = PLAIN.deserialize(Reply(json.dumps(values)), model)
    if hasattr(made, "attribute_map"):
        unknown = set(values) - set(made.attribute_map.values())
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)} of {model}")
    return made


def plain(made: Any) -> Any:
    """A model as JSON."""
    return PLAIN.sanitize_for_serialization(made)
