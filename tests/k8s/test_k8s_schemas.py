"""Every object of every overlay is one that its API takes, unknown fields refused; what is generated is up to date."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.components.launch.kubernetes_schemas import FILES
from tests.components.launch.kubernetes_schemas import complaints as definition_complaints
from tests.k8s import custom_kinds
from tests.k8s.generated import HEAD, generated
from tests.k8s.manifests import K8S, OVERLAYS, Object, build, find, name

KUBERNETES = "1.37"
EXAMPLES = sorted((K8S / "examples").glob("*.yaml"))


def is_core(item: Object) -> bool:
    group = item["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and ".x-k8s.io" not in group)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_object_of_its_own(overlay: str) -> None:
    items = [item for item in build(overlay) if is_core(item)]
    assert len(items) > 20
    for item in items:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_objects_of_others_agree_with_their_definitions(overlay: str, shared: Path) -> None:
    others = [item for item in build(overlay) if not is_core(item)]
    assert {"TrainingRuntime", "ServiceMonitor", "PrometheusRule"} <= {item["kind"] for item in others}
    for item in others:
        found = definition_complaints(shared, item) if item["kind"] in FILES else custom_kinds.complaints(item)
        assert found == [], name(item)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_of_jobs_agree_with_their_definitions(path: Path, shared: Path) -> None:
    assert definition_complaints(shared, yaml.safe_load(path.read_text())) == []


def test_what_is_made_from_the_settings_is_up_to_date() -> None:
    for path, manifest in generated().items():
        assert path.read_text().startswith(HEAD)
        assert yaml.safe_load(path.read_text()) == manifest, f"{path}: PYTHONPATH=. python tests/k8s/generated.py"
    assert {path for path in generated() if path.parent.name == "examples"} == set(EXAMPLES)


def test_an_unknown_field_is_refused_in_kinds_of_kubernetes_and_of_others() -> None:
    objects = build("prod")
    deployment = find(objects, "Deployment", "lingbot-endpoint")
    deployment["spec"]["template"]["spec"]["containers"][0]["startupPorbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="startupPorbe"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)
    monitor = find(objects, "ServiceMonitor", "lingbot-endpoint")
    monitor["spec"]["endpoints"][0]["intervall"] = "15s"
    assert any("intervall" in line for line in custom_kinds.complaints(monitor))
    queue = find(objects, "ClusterQueue", "lingbot")
    queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "many"
    assert len(custom_kinds.complaints(queue)) == 1
