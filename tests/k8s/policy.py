"""What is not allowed in k8s/, a rule a function: each yields one sentence for each object that breaks it."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.k8s.manifests import WORKLOADS, Object, name, of_kind, pods, selects

Rule = Callable[[list[Object]], Iterator[str]]
SECRET_NAME = re.compile(r"password|secret|token|credential|private.?key|access.?key", re.IGNORECASE)
HOST = ("hostNetwork", "hostPID", "hostIPC")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
RESOURCES = ("cpu", "memory", "ephemeral-storage")
# Verbs by which rights grow, and what they grow from.
GROWING = {"escalate", "bind", "impersonate"}


def no_root(objects: list[Object]) -> Iterator[str]:
    """The restricted Pod Security standard, and a root file system that is read-only."""
    for whose, template in pods(objects):
        spec, security = template["spec"], template["spec"].get("securityContext", {})
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) == 0:
            yield f"{whose} may run as root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{whose} has no seccomp profile"
        for flag in HOST:
            if spec.get(flag):
                yield f"{whose} has {flag}"
        for volume in spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{whose} mounts a folder of its node"
        for container in containers(spec):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{whose}/{container['name']} may gain privileges"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
                yield f"{whose}/{container['name']} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{whose}/{container['name']} writes into its image"
            if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
                yield f"{whose}/{container['name']} runs as root"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{whose}/{container['name']} takes a port of its node"


def no_latest(objects: list[Object]) -> Iterator[str]:
    for whose, template in pods(objects):
        for container in containers(template["spec"]):
            image = container["image"]
            tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{whose}/{container['name']} runs {image}, which can change under its name"


def by_digest(objects: list[Object]) -> Iterator[str]:
    """For production."""
    for whose, template in pods(objects):
        for container in containers(template["spec"]):
            if not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
                yield f"{whose}/{container['name']} runs {container['image']}, which is no digest"


def limits_set(objects: list[Object]) -> Iterator[str]:
    for whose, template in pods(objects):
        for container in containers(template["spec"]):
            for kind in ("requests", "limits"):
                given = container.get("resources", {}).get(kind, {})
                for resource in RESOURCES:
                    if resource not in given:
                        yield f"{whose}/{container['name']} has no {resource} among its {kind}"
        for volume in template["spec"].get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{whose}: volume {volume['name']} may fill its node"


def probes_set(objects: list[Object]) -> Iterator[str]:
    for whose, template in pods(objects):
        if whose.startswith(("Job", "CronJob")):
            continue
        for container in template["spec"]["containers"]:
            for probe in PROBES:
                if probe not in container:
                    yield f"{whose}/{container['name']} has no {probe}"
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in PROBES:
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if port is not None and port not in ports:
                    yield f"{whose}/{container['name']}: {probe} asks port {port}, which it does not have"


def least_rights(objects: list[Object]) -> Iterator[str]:
    for role in of_kind(objects, "Role", "ClusterRole"):
        for rule in role["rules"]:
            verbs = set(rule["verbs"])
            for field in ("verbs", "resources", "apiGroups", "nonResourceURLs"):
                if any("*" in value for value in rule.get(field, [])):
                    yield f"{name(role)} has a wildcard among its {field}"
            if "secrets" in rule.get("resources", []):
                yield f"{name(role)} reads secrets"
            if verbs & GROWING:
                yield f"{name(role)} may {' and '.join(sorted(verbs & GROWING))}"
    accounts = {item["metadata"]["name"] for item in of_kind(objects, "ServiceAccount")}
    roles = {(item["kind"], item["metadata"]["name"]) for item in of_kind(objects, "Role", "ClusterRole")}
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        reference = binding["roleRef"]
        if (reference["kind"], reference["name"]) not in roles:
            yield f"{name(binding)} binds {reference['kind']} {reference['name']}, which is not here"
        for subject in binding["subjects"]:
            if subject["kind"] != "ServiceAccount" or subject["name"] not in accounts:
                yield f"{name(binding)} gives rights to {subject['kind']} {subject['name']}"


def no_tokens(objects: list[Object]) -> Iterator[str]:
    """Nothing that serves talks to the Kubernetes API."""
    for whose, template in pods(objects):
        if template["spec"].get("automountServiceAccountToken") is not False:
            yield f"{whose} gets a token of the Kubernetes API"
        if template["spec"].get("serviceAccountName", "default") == "default":
            yield f"{whose} runs as the default service account"


def no_secret_values(objects: list[Object]) -> Iterator[str]:
    for item in of_kind(objects, "Secret"):
        yield f"{name(item)} holds its values: make it in the cluster, and refer to it"
    for whose, template in pods(objects):
        for container in containers(template["spec"]):
            for variable in container.get("env", []):
                if SECRET_NAME.search(variable["name"]) and "value" in variable:
                    yield f"{whose}/{container['name']} has the value of {variable['name']}"
    for item in of_kind(objects, "ConfigMap"):
        for key in item.get("data", {}):
            if SECRET_NAME.search(key):
                yield f"{name(item)} has {key}"


def names_resolve(objects: list[Object]) -> Iterator[str]:
    """Accounts, configuration and claims that pods name are here."""
    known = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    for whose, template in pods(objects):
        spec = template["spec"]
        if ("ServiceAccount", spec.get("serviceAccountName")) not in known:
            yield f"{whose} runs as {spec.get('serviceAccountName')}, which is not here"
        for reference in references(spec, "configMapKeyRef"):
            held = known.get(("ConfigMap", reference["name"]), {}).get("data", {})
            if reference["key"] not in held:
                yield f"{whose} reads {reference['name']}/{reference['key']}, which is not here"
        for volume in spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and ("PersistentVolumeClaim", claim) not in known:
                yield f"{whose} mounts the claim {claim}, which is not here"


def network_closed(objects: list[Object]) -> Iterator[str]:
    """Everything is denied that no policy names; and what a service offers, some policy lets in."""
    policies = of_kind(objects, "NetworkPolicy")
    closed = [
        item
        for item in policies
        if item["spec"]["podSelector"] == {}
        and set(item["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not item["spec"].get("ingress")
        and not item["spec"].get("egress")
    ]
    if not closed:
        yield "no NetworkPolicy denies what is not named"
    for item in policies:
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in item["spec"].get(direction, []):
                if not rule.get(side):
                    yield f"{name(item)} lets {direction} through whoever it is"
    for service in of_kind(objects, "Service"):
        for whose, template in pods(objects):
            labels = template["metadata"]["labels"]
            if not selects({"matchLabels": service["spec"]["selector"]}, labels):
                continue
            numbers = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
            for port in service["spec"]["ports"]:
                allowed = {
                    entry["port"]
                    for item in policies
                    if selects(item["spec"]["podSelector"], labels)
                    for rule in item["spec"].get("ingress", [])
                    for entry in rule.get("ports", [])
                }
                if numbers.get(port["targetPort"]) not in allowed:
                    yield f"{whose}: no policy lets anybody in to port {port['targetPort']} of {name(service)}"


def selectors_meet(objects: list[Object]) -> Iterator[str]:
    """Services, budgets, scalers and monitors point at something."""
    templates = [template for _, template in pods(objects)]
    for item in of_kind(objects, "Service", "PodDisruptionBudget"):
        selector = item["spec"]["selector"]
        wanted = selector if item["kind"] == "PodDisruptionBudget" else {"matchLabels": selector}
        met = [template for template in templates if selects(wanted, template["metadata"]["labels"])]
        if not met:
            yield f"{name(item)} selects no pod"
        for port in item["spec"].get("ports", []):
            offered = {port["name"] for template in met for port in template["spec"]["containers"][0]["ports"]}
            if port["targetPort"] not in offered:
                yield f"{name(item)} leads to port {port['targetPort']}, which its pods do not have"
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        if not any((o["kind"], o["metadata"]["name"]) == (target["kind"], target["name"]) for o in objects):
            yield f"{name(item)} scales {target['name']}, which is not here"
    for item in of_kind(objects, "ServiceMonitor"):
        services = [
            s for s in of_kind(objects, "Service") if selects(item["spec"]["selector"], s["metadata"].get("labels", {}))
        ]
        ports = {port["name"] for service in services for port in service["spec"]["ports"]}
        for endpoint in item["spec"]["endpoints"]:
            if endpoint["port"] not in ports:
                yield f"{name(item)} scrapes port {endpoint['port']}, which no service of it has"


def stays_up(objects: list[Object]) -> Iterator[str]:
    """What has several replicas goes away one by one, and is not replaced before its successor is ready."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    for item in of_kind(objects, "Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if not any(selects(budget["spec"]["selector"], labels) for budget in budgets):
            yield f"{name(item)} has no PodDisruptionBudget"
        strategy = item["spec"]["strategy"]
        rolling = strategy.get("rollingUpdate", {})
        if strategy.get("type") != "RollingUpdate" or (rolling.get("maxUnavailable"), rolling.get("maxSurge")) != (
            0,
            1,
        ):
            yield f"{name(item)} takes a replica away before its successor is ready"


def restricted_namespace(objects: list[Object]) -> Iterator[str]:
    spaces = {item["metadata"]["name"]: item for item in of_kind(objects, "Namespace")}
    for item in spaces.values():
        if item["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name(item)} does not enforce the restricted Pod Security standard"
    for item in of_kind(objects, *WORKLOADS, "Service", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap"):
        if item["metadata"].get("namespace") not in spaces:
            yield f"{name(item)} is in namespace {item['metadata'].get('namespace')}, which is not here"


RULES: tuple[Rule, ...] = (
    no_root, no_latest, limits_set, probes_set, least_rights, no_tokens, no_secret_values, names_resolve,
    network_closed, selectors_meet, stays_up, restricted_namespace,
)  # fmt: skip


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def references(value: Any, key: str) -> Iterator[Object]:
    """Every mapping under a key of that name, however deep."""
    if isinstance(value, dict):
        for field, child in value.items():
            if field == key:
                yield child
            else:
                yield from references(child, key)
    elif isinstance(value, list):
        for child in value:
            yield from references(child, key)
