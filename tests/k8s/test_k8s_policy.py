"""The policy holds for every overlay, and each of its rules notices what it is for."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s import policy
from tests.k8s.manifests import OVERLAYS, Object, build, find

Change = Callable[[list[Object]], Any]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", policy.RULES, ids=lambda rule: rule.__name__)
def test_the_overlays_keep_the_policy(overlay: str, rule: policy.Rule) -> None:
    assert list(rule(build(overlay))) == []


def test_production_runs_digests_alone() -> None:
    assert list(policy.by_digest(build("prod"))) == []
    assert list(policy.by_digest(build("dev"))) != [], "dev takes tags: the rule tells them apart"


def endpoint(objects: list[Object]) -> Object:
    found: Object = find(objects, "Deployment", "lingbot-endpoint")["spec"]["template"]["spec"]
    return found


def container(objects: list[Object]) -> Object:
    found: Object = endpoint(objects)["containers"][0]
    return found


def rules(objects: list[Object]) -> list[Object]:
    found: list[Object] = find(objects, "Role", "lingbot-launcher")["rules"]
    return found


def spec(kind: str, called: str) -> Callable[[list[Object]], Object]:
    return lambda objects: find(objects, kind, called)["spec"]


def drop(kind: str, called: str) -> Change:
    return lambda objects: objects.remove(find(objects, kind, called))


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "data": {}}
BREAKS: list[tuple[policy.Rule, Change, str]] = [
    (policy.no_root, lambda o: endpoint(o)["securityContext"].update(runAsUser=0), "may run as root"),
    (policy.no_root, lambda o: endpoint(o)["securityContext"].pop("runAsNonRoot"), "may run as root"),
    (policy.no_root, lambda o: endpoint(o)["securityContext"].pop("seccompProfile"), "has no seccomp profile"),
    (policy.no_root, lambda o: endpoint(o).update(hostNetwork=True), "has hostNetwork"),
    (policy.no_root, lambda o: endpoint(o)["volumes"].append({"name": "x", "hostPath": {}}), "a folder of its node"),
    (policy.no_root, lambda o: container(o)["securityContext"].update(privileged=True), "may gain privileges"),
    (policy.no_root, lambda o: container(o)["securityContext"].update(runAsUser=0), "runs as root"),
    (policy.no_root, lambda o: container(o)["securityContext"].pop("capabilities"), "keeps capabilities"),
    (policy.no_root, lambda o: container(o)["securityContext"].pop("readOnlyRootFilesystem"), "writes into its image"),
    (policy.no_root, lambda o: container(o)["ports"][0].update(hostPort=80), "takes a port of its node"),
    (policy.no_latest, lambda o: container(o).update(image="x.io:5000/serve"), "can change under its name"),
    (policy.no_latest, lambda o: container(o).update(image="serve:latest"), "can change under its name"),
    (policy.by_digest, lambda o: container(o).update(image="serve:1.2"), "is no digest"),
    (policy.limits_set, lambda o: container(o)["resources"]["limits"].pop("memory"), "no memory among its limits"),
    (policy.limits_set, lambda o: container(o)["resources"].pop("requests"), "no cpu among its requests"),
    (policy.limits_set, lambda o: endpoint(o)["volumes"][1]["emptyDir"].clear(), "may fill its node"),
    (policy.probes_set, lambda o: container(o).pop("readinessProbe"), "has no readinessProbe"),
    (policy.probes_set, lambda o: container(o)["livenessProbe"]["httpGet"].update(port="web"), "asks port web"),
    (policy.least_rights, lambda o: rules(o)[0].update(verbs=["*"]), "wildcard among its verbs"),
    (policy.least_rights, lambda o: rules(o)[0].update(resources=["pods/*"]), "wildcard among its resources"),
    (policy.least_rights, lambda o: rules(o)[3]["resources"].append("secrets"), "reads secrets"),
    (policy.least_rights, lambda o: rules(o)[3]["verbs"].append("impersonate"), "may impersonate"),
    (policy.least_rights, drop("ServiceAccount", "lingbot-pipeline"), "gives rights to ServiceAccount"),
    (policy.no_tokens, lambda o: endpoint(o).pop("automountServiceAccountToken"), "gets a token"),
    (policy.no_tokens, lambda o: endpoint(o).pop("serviceAccountName"), "the default service account"),
    (policy.no_secret_values, lambda o: o.append(SECRET), "holds its values"),
    (policy.no_secret_values, lambda o: container(o)["env"].append({"name": "S3_SECRET", "value": "x"}), "S3_SECRET"),
    (policy.names_resolve, drop("ServiceAccount", "lingbot-endpoint"), "runs as lingbot-endpoint, which is not here"),
    (policy.network_closed, drop("NetworkPolicy", "default-deny"), "no NetworkPolicy denies"),
    (
        policy.network_closed,
        lambda o: spec("NetworkPolicy", "lingbot-endpoint")(o)["ingress"][0].pop("from"),
        "whoever",
    ),
    (policy.network_closed, drop("NetworkPolicy", "lingbot-mlflow"), "no policy lets anybody in to port http"),
    (policy.selectors_meet, lambda o: spec("Service", "lingbot-mlflow")(o)["selector"].update(a="b"), "selects no pod"),
    (policy.selectors_meet, lambda o: container(o)["ports"].pop(), "leads to port metrics"),
    (policy.selectors_meet, drop("Deployment", "lingbot-endpoint"), "scales lingbot-endpoint, which is not here"),
    (policy.selectors_meet, drop("Service", "lingbot-endpoint-metrics"), "scrapes port metrics"),
    (policy.stays_up, drop("PodDisruptionBudget", "lingbot-mlflow"), "has no PodDisruptionBudget"),
    (
        policy.stays_up,
        lambda o: spec("Deployment", "lingbot-endpoint")(o)["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "takes a replica away",
    ),
    (
        policy.stays_up,
        lambda o: spec("Deployment", "lingbot-mlflow")(o)["strategy"].update(type="Recreate"),
        "takes a replica away",
    ),
    (
        policy.restricted_namespace,
        lambda o: find(o, "Namespace", "lingbot")["metadata"]["labels"].clear(),
        "does not enforce the restricted",
    ),
    (
        policy.restricted_namespace,
        lambda o: find(o, "Service", "lingbot-mlflow")["metadata"].update(namespace="default"),
        "in namespace default",
    ),
]


@pytest.mark.parametrize(("rule", "change", "message"), BREAKS, ids=[f"{r.__name__}-{m}" for r, _, m in BREAKS])
def test_a_rule_notices(rule: policy.Rule, change: Change, message: str) -> None:
    objects = build("prod")
    change(objects)
    assert any(message in line for line in rule(objects)), list(rule(objects))


def test_configuration_that_is_not_there_is_noticed() -> None:
    objects = build("prod")
    for item in objects:
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("lingbot-settings"):
            del item["data"]["s3-region"]
    assert any("/s3-region, which is not here" in line for line in policy.names_resolve(objects))
