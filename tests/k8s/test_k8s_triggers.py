"""From a bucket's notification to a run: source, bus, sensor and Job of the overlays fit each other and the code."""

import json
from typing import Any

import kubernetes_validate
import pytest

from pipelines.cli import build_parser
from pipelines.triggers.events import datasets_of
from tests.k8s import custom_kinds
from tests.k8s.manifests import OVERLAYS, Object, build, find, of_kind, selects

OBJECT = {"bucket": {"name": "b"}, "object": {"key": "datasets/cubes/meta/info.json"}}
RECORD = json.dumps({"eventName": "s3:ObjectCreated:Put", "s3": OBJECT})
# What Argo Events 1.9 gives a sensor of each source, and the key of it that the bucket's own words are under.
GIVEN = {"minio": ("notification", f"[{RECORD}]"), "sqs": ("body", f'{{"Records": [{RECORD}]}}')}


def trigger(objects: list[Object]) -> Object:
    (found,) = find(objects, "Sensor", "lingbot-data")["spec"]["triggers"]
    return found["template"]["k8s"]  # type: ignore[no-any-return]


def job(objects: list[Object]) -> Object:
    found: Object = trigger(objects)["source"]["resource"]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_sensor_hears_the_source_on_the_bus(overlay: str) -> None:
    objects = build(overlay)
    (source,) = of_kind(objects, "EventSource")
    sensor, bus = find(objects, "Sensor", "lingbot-data"), find(objects, "EventBus", "lingbot")
    kind = ({*source["spec"]} & {*GIVEN}).pop()
    (dependency,) = sensor["spec"]["dependencies"]
    assert dependency["eventSourceName"] == source["metadata"]["name"]
    assert [dependency["eventName"]] == list(source["spec"][kind])
    assert source["spec"]["eventBusName"] == sensor["spec"]["eventBusName"] == bus["metadata"]["name"]
    (parameter,) = trigger(objects)["parameters"]
    key, words = GIVEN[kind]
    assert parameter["src"] == {"dependencyName": dependency["name"], "dataKey": key}
    assert datasets_of(words) == ["s3://b/datasets/cubes"]
    accounts = {item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")}
    assert {
        source["spec"]["template"]["serviceAccountName"],
        sensor["spec"]["template"]["serviceAccountName"],
    } <= accounts


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_job_is_one_that_kubernetes_takes_and_the_command_line_too(overlay: str) -> None:
    objects = build(overlay)
    made = job(objects)
    kubernetes_validate.validate(made, "1.37", strict=True)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    (parameter,) = trigger(objects)["parameters"]
    *path, last = parameter["dest"].split(".")
    place: Any = made
    for part in path:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert place is container["args"] and place[int(last) - 1] == "--event"
    place[int(last)] = GIVEN["minio"][1]
    given = build_parser().parse_args(container["args"])
    assert (given.command, given.action, given.event) == ("trigger", "data", GIVEN["minio"][1])
    assert made["spec"]["activeDeadlineSeconds"] > given.give_up


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_job_reaches_kubeflow_the_bucket_and_nothing_else(overlay: str) -> None:
    objects = build(overlay)
    labels = job(objects)["spec"]["template"]["metadata"]["labels"]
    policies = {
        item["metadata"]["name"]
        for item in of_kind(objects, "NetworkPolicy")
        if selects(item["spec"]["podSelector"], labels)
    }
    assert policies == {"lingbot-trigger", "allow-object-store", "allow-dns", "default-deny"}
    volumes = job(objects)["spec"]["template"]["spec"]["volumes"]
    (token,) = [volume["projected"] for volume in volumes if "projected" in volume]
    assert token["sources"][0]["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"


def test_unknown_and_missing_fields_of_argo_events_are_refused() -> None:
    objects = build("dev")
    (source,) = of_kind(objects, "EventSource")
    source["spec"]["minio"]["new-data"]["endpoint"] = "http://minio:9000"
    sensor = find(objects, "Sensor", "lingbot-data")
    del sensor["spec"]["template"]["container"]["securityContext"]["capabilities"]
    bus = find(objects, "EventBus", "lingbot")
    bus["spec"]["jetstream"]["replica"] = 1
    assert ["endpoint" in line for line in custom_kinds.complaints(source)] == [True]
    assert ["capabilities" in line for line in custom_kinds.complaints(sensor)] == [True]
    assert ["replica" in line for line in custom_kinds.complaints(bus)] == [True]
