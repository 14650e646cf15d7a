"""The manifests and the code that they run say the same: options, ports, paths, metrics, rights, secrets."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.endpoint.metrics import METRICS_PORT, Metrics
from components.endpoint.options import KEYS_VARIABLE, add_arguments, options_from
from components.images import IMAGES
from components.launch import kinds
from components.launch.cluster import Cluster
from components.launch.preflight import Preflight
from components.launch.settings import load_settings
from pipelines.profile import load_profile
from tests.k8s.generated import EXAMPLE, SETTINGS
from tests.k8s.manifests import K8S, OVERLAYS, Object, build, find, of_kind, pods, selects
from tests.k8s.policy import references

BOARDS = sorted((K8S / "components/monitoring/dashboards").glob("*.json"))
EXPRESSION = re.compile(r"\blingbot_[a-z_]+")


def served(overlay: str) -> tuple[Object, Object]:
    pod = find(build(overlay), "Deployment", "lingbot-endpoint")["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def exposed() -> dict[str, set[str]]:
    """Series that the endpoint has -> their labels."""
    found: dict[str, set[str]] = {}
    for metric in Metrics().registry.collect():
        kind = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}[metric.type]
        found |= {metric.name + suffix: set() for suffix in kind}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every alert and every panel."""
    for group in find(build("prod"), "PrometheusRule", "lingbot")["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{board['title']}: {panel['title']}", target["expr"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_endpoint_takes_its_options(overlay: str) -> None:
    _, container = served(overlay)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = options_from(parser.parse_args(container["args"]))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": options.port, "metrics": options.metrics_port} == {"http": 8000, "metrics": METRICS_PORT}
    assert options.host == "0.0.0.0" and options.alias == "champion"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_drain_ends_before_the_pod_is_killed(overlay: str) -> None:
    pod, container = served(overlay)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = options_from(parser.parse_args(container["args"]))
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "sleep"
    assert waits > container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] >= waits + options.drain_seconds + 10


def test_probes_ask_paths_that_the_endpoint_has() -> None:
    from components.endpoint import app

    source = Path(app.__file__).read_text()
    _, container = served("prod")
    asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"/livez", "/readyz"}
    assert all(f'"{path}"' in source for path in asked)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_keys_are_mounted_where_the_endpoint_reads_them(overlay: str) -> None:
    pod, container = served(overlay)
    environment = {item["name"]: item.get("value") for item in container["env"]}
    mount = next(item for item in container["volumeMounts"] if item["name"] == "keys")
    assert environment[KEYS_VARIABLE] == f"{mount['mountPath']}/keys.json"
    assert next(v for v in pod["volumes"] if v["name"] == "keys")["secret"]["secretName"] == "lingbot-endpoint-keys"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mlflow_answers_to_every_name_that_it_is_called_by(overlay: str) -> None:
    objects = build(overlay)
    (mlflow,) = find(objects, "Deployment", "lingbot-mlflow")["spec"]["template"]["spec"]["containers"]
    names = next(item["value"] for item in mlflow["env"] if item["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS").split(",")
    _, container = served(overlay)
    called = [next(item["value"] for item in container["env"] if item["name"] == "MLFLOW_TRACKING_URI")]
    called += [load_profile(name).environment["MLFLOW_TRACKING_URI"] for name in ("cluster", "h100")]
    assert {address.removeprefix("http://") for address in called} <= set(names)


def test_the_autoscaler_s_metric_is_one_of_the_endpoint_s() -> None:
    (metric,) = find(build("prod"), "HorizontalPodAutoscaler", "lingbot-endpoint")["spec"]["metrics"]
    called = metric["pods"]["metric"]["name"]
    assert called in exposed()
    assert called in (K8S / "components/monitoring/adapter-rules.yaml").read_text()


def test_alerts_and_dashboards_ask_for_series_that_there_are() -> None:
    series = exposed()
    unknown = {
        f"{where}: {found}"
        for where, text in expressions()
        for found in EXPRESSION.findall(text)
        if found not in series
    }
    assert unknown == set()


def test_the_alert_about_memory_asks_how_a_pod_ended_that_is_never_started_again() -> None:
    """The last end of a container that was started again has a series of its own, which these pods never have."""
    (job,) = find(build("prod"), "TrainingRuntime", "lingbot-torch")["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    asked = dict(expressions())["LingbotTrainingPodOutOfMemory"]
    assert "kube_pod_container_status_terminated_reason" in asked and "last_terminated" not in asked


def test_every_metric_of_the_endpoint_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = {found for _, text in expressions() for found in EXPRESSION.findall(text)}
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", found) for found in asked}
    declared = {metric.name for metric in Metrics().registry.collect()}
    assert declared - shown == set()


def test_labels_that_alerts_and_dashboards_group_by_exist() -> None:
    labels: dict[str, set[str]] = {}
    for metric in Metrics().registry._names_to_collectors.values():
        for found in metric.describe():  # type: ignore[attr-defined]
            labels.setdefault(found.name, set()).update(metric._labelnames)  # type: ignore[attr-defined]
    for where, text in expressions():
        for series, selector in re.findall(r"\b(lingbot_[a-z_]+)\{([^}]*)\}", text):
            base = re.sub(r"_(total|bucket|sum|count)$", "", series)
            used = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector))
            assert used <= labels[base] | {"namespace", "pod"}, f"{where}: {series} has the labels {labels[base]}"


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Any) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] and board["title"] and len(board["panels"]) >= 10
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [(p["x"] + x, p["y"] + y) for p in places for x in range(p["w"]) for y in range(p["h"])]
    assert len(cells) == len(set(cells)), "panels lie over each other"
    assert all(p["x"] + p["w"] <= 24 for p in places)


def test_the_launcher_may_do_what_it_does_and_nothing_else() -> None:
    settings = load_settings(SETTINGS)
    wanted = set()
    for kind in kinds.KINDS.values():
        asked = Preflight(cluster=Cluster(api=None, namespace="", kind=kind, patience=None))  # type: ignore[arg-type]
        for verb, group, resource, sub in asked._verbs(kind.build(EXAMPLE, settings)):
            wanted.add((verb, group, f"{resource}/{sub}" if sub else resource))
    allowed = {
        (verb, group, resource)
        for rule in find(build("prod"), "Role", "lingbot-launcher")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == wanted


def test_training_pods_reach_each_other_the_store_and_the_registry() -> None:
    objects = build("prod")
    labels = load_settings(SETTINGS).labels
    policies = {
        item["metadata"]["name"]
        for item in of_kind(objects, "NetworkPolicy")
        if selects(item["spec"]["podSelector"], labels)
    }
    assert {"lingbot-training", "allow-object-store", "allow-dns", "default-deny"} <= policies
    assert "lingbot-endpoint" not in policies


def test_secrets_that_are_referred_to_are_told_in_the_readme() -> None:
    readme = (K8S / "README.md").read_text()
    wanted = {value.split("/")[0] for value in load_settings(SETTINGS).secrets.values()}
    for overlay in OVERLAYS:
        for _, template in pods(build(overlay)):
            wanted |= {reference["name"] for reference in references(template, "secretKeyRef")}
            wanted |= {volume["secretName"] for volume in references(template, "secret")}
    assert wanted and all(f"secret generic {name}" in readme for name in wanted), wanted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlays_name_our_images(overlay: str) -> None:
    ours = {image.partition(":")[0]: image.partition(":")[2] for image in IMAGES.values()}
    for whose, template in pods(build(overlay)):
        for container in template["spec"]["containers"]:
            called = container["image"].partition("@")[0].rpartition("/")[2].partition(":")
            if called[0].startswith("lingbot"):
                assert called[0] in ours, whose
                assert called[2] in ("", ours[called[0]]), f"{whose}: {container['image']}"
