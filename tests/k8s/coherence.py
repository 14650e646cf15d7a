"""What no schema says and a cluster finds at the last moment: names that meet nothing, shares that exceed limits, files
that cannot be read. A rule a function, as in policy.py: each yields a sentence for each object that breaks it."""

import re
from collections.abc import Iterator
from typing import Any

from tests.k8s.manifests import WORKLOADS, Object, name, of_kind, pods, selects
from tests.k8s.policy import PROBES, Rule, containers

CLUSTER_WIDE = ("Namespace", "ClusterQueue", "ResourceFlavor")
ADDRESS = re.compile(r"\b(?:https?://|@)?(lingbot-[a-z0-9-]+)(?:\.[a-z.]+)?:(\d+)\b")
IMAGE_USER = 1000  # of our images (containers/Containerfile.*)
_UNITS = {"": 1.0, "m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def everything_is_in_the_namespace(objects: list[Object]) -> Iterator[str]:
    (space,) = (item["metadata"]["name"] for item in of_kind(objects, "Namespace"))
    for item in objects:
        if item["kind"] not in CLUSTER_WIDE and item["metadata"].get("namespace") != space:
            yield f"{name(item)} is in namespace {item['metadata'].get('namespace')}"
    for binding in of_kind(objects, "RoleBinding"):
        if not binding["subjects"] or any(subject.get("namespace") != space for subject in binding["subjects"]):
            yield f"{name(binding)} gives its rights to nobody in {space}"
        if binding["roleRef"].get("apiGroup") != "rbac.authorization.k8s.io":
            yield f"{name(binding)} binds a Role of the group {binding['roleRef'].get('apiGroup')}"


def workloads_select_their_own(objects: list[Object]) -> Iterator[str]:
    services = {item["metadata"]["name"] for item in of_kind(objects, "Service")}
    for item in of_kind(objects, *WORKLOADS):
        labels, spec = item["spec"]["template"]["metadata"]["labels"], item["spec"]
        wanted = [("selector", spec["selector"])]
        wanted += [("spread", rule["labelSelector"]) for rule in _pod(item).get("topologySpreadConstraints", [])]
        for what, selector in wanted:
            if not selector.get("matchLabels") or not selects(selector, labels):
                yield f"{name(item)}: its {what} does not take its own pods"
        if item["kind"] == "StatefulSet" and spec["serviceName"] not in services:
            yield f"{name(item)} is named by {spec['serviceName']}, which is not here"


def mounts_meet(objects: list[Object]) -> Iterator[str]:
    claims = {
        item["metadata"]["name"]: {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        for item in of_kind(objects, "StatefulSet")
    }
    for whose, template in pods(objects):
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        volumes |= claims.get(whose.partition(" ")[2], set())
        mounted = {mount["name"] for each in containers(template["spec"]) for mount in each.get("volumeMounts", [])}
        for lone in sorted(volumes ^ mounted):
            yield f"{whose}: {lone} is {'no volume' if lone in mounted else 'mounted by nobody'}"
        for container in containers(template["spec"]):
            paths = {mount["mountPath"]: mount.get("readOnly", False) for mount in container.get("volumeMounts", [])}
            if paths.get("/tmp", True):
                yield f"{whose}/{container['name']} has no /tmp to write to"
            homes = [item["value"] for item in container.get("env", []) if item["name"] == "LINGBOT_HOME"]
            if (
                _ours(container)
                and "mlflow" not in container["image"]
                and [paths.get(home) for home in homes] != [False]
            ):
                yield f"{whose}/{container['name']} has no LINGBOT_HOME to write to"


def probes_and_volumes_are_whole(objects: list[Object]) -> Iterator[str]:
    """The API refuses a probe that asks nothing; a volume of nothing is a folder without a limit."""
    for whose, template in pods(objects):
        for volume in template["spec"].get("volumes", []):
            if len(volume) != 2:
                yield f"{whose}: the volume {volume['name']} is of {len(volume) - 1} kinds"
        for container in containers(template["spec"]):
            for probe in PROBES:
                asked = {"httpGet", "exec", "tcpSocket", "grpc"} & {*container.get(probe, {"exec": {}})}
                if len(asked) != 1:
                    yield f"{whose}/{container['name']}: {probe} asks nothing"


def files_can_be_read(objects: list[Object]) -> Iterator[str]:
    """Secrets belong to root and the pod's group; the image's user is one of it."""
    for whose, template in pods(objects):
        spec = template["spec"]
        security = spec["securityContext"]
        if any(_ours(container) for container in containers(spec)):
            users = {security.get("runAsUser"), security.get("runAsGroup"), security.get("fsGroup", IMAGE_USER)}
            if users != {IMAGE_USER}:
                yield f"{whose} runs as {users}, its image's files are those of {IMAGE_USER}"
        for volume in spec.get("volumes", []):
            mode = volume.get("secret", {}).get("defaultMode", 0o644)
            if not mode & 0o004 and not (mode & 0o040 and security.get("fsGroup") == security.get("runAsGroup")):
                yield f"{whose} cannot read the files of {volume['name']}"


def requests_fit(objects: list[Object]) -> Iterator[str]:
    for whose, template in pods(objects):
        for container in containers(template["spec"]):
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            for resource in sorted({*requests, *limits}):
                asked, most = quantity(requests.get(resource, 0)), quantity(limits.get(resource, 0))
                if asked > most or (asked != most and "/" in resource):
                    yield f"{whose}/{container['name']} asks for {asked:g} {resource} of at most {most:g}"
            held = sum(
                quantity(volume["emptyDir"]["sizeLimit"])
                for volume in template["spec"].get("volumes", [])
                if "emptyDir" in volume
            )
            if held > quantity(limits["ephemeral-storage"]):
                yield f"{whose}: its volumes may hold more than its ephemeral storage, and then it is evicted"


def addresses_lead_somewhere(objects: list[Object]) -> Iterator[str]:
    """Where pods are told that a service of ours is, it is."""
    offered = {
        (item["metadata"]["name"], str(port["port"]))
        for item in of_kind(objects, "Service")
        for port in item["spec"]["ports"]
    }
    for whose, text in _texts(objects):
        for called in ADDRESS.findall(text):
            if called not in offered:
                yield f"{whose} calls {':'.join(called)}, which no service of it answers"


def replicas_are_the_scaler_s_to_say(objects: list[Object]) -> Iterator[str]:
    """A Deployment that names a number is scaled back to it by each apply, or refuses the apply, once it was scaled."""
    named = {name(item): "replicas" in item["spec"] for item in of_kind(objects, "Deployment")}
    for item in of_kind(objects, "HorizontalPodAutoscaler"):
        target, least = item["spec"]["scaleTargetRef"], item["spec"].get("minReplicas", 1)
        if target["apiVersion"] != "apps/v1" or named.get(f"{target['kind']} {target['name']}") is not False:
            yield f"{name(item)} scales {target['name']}, which names its own replicas or is none that it knows"
        if item["spec"]["maxReplicas"] <= least:
            yield f"{name(item)} cannot scale"


def tokens_go_to_those_with_rights(objects: list[Object]) -> Iterator[str]:
    bound = {subject["name"] for item in of_kind(objects, "RoleBinding") for subject in item["subjects"]}
    for item in of_kind(objects, "ServiceAccount"):
        if item["metadata"]["name"] not in bound and item.get("automountServiceAccountToken") is not False:
            yield f"{name(item)} has no rights, and its pods get a token"


def budgets_take_one_at_a_time(objects: list[Object]) -> Iterator[str]:
    """A budget without labels is about every pod; a pod that is broken anyway must not keep its node."""
    for item in of_kind(objects, "PodDisruptionBudget"):
        spec = item["spec"]
        if not spec["selector"].get("matchLabels"):
            yield f"{name(item)} is about pods of others"
        if (spec.get("maxUnavailable"), spec.get("unhealthyPodEvictionPolicy")) != (1, "AlwaysAllow"):
            yield f"{name(item)} lets more than one go, or a broken one not"


RULES: tuple[Rule, ...] = (
    everything_is_in_the_namespace, workloads_select_their_own, mounts_meet, probes_and_volumes_are_whole,
    files_can_be_read, requests_fit, addresses_lead_somewhere, replicas_are_the_scaler_s_to_say,
    tokens_go_to_those_with_rights, budgets_take_one_at_a_time,
)  # fmt: skip


def quantity(text: str | int) -> float:
    """Kubernetes' 500m, 2, 3Gi as a number."""
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    assert found, text
    return float(found[1]) * _UNITS[found[2]]


def _pod(item: Object) -> Object:
    found: Object = item["spec"]["template"]["spec"]
    return found


def _ours(container: Object) -> bool:
    return "lingbot-python-" in container["image"]


def _texts(objects: list[Object]) -> Iterator[tuple[str, str]]:
    """What containers are given to read as text."""
    for whose, template in pods(objects):
        for container in containers(template["spec"]):
            given: list[Any] = [
                *container.get("args", []),
                *(item.get("value", "") for item in container.get("env", [])),
            ]
            yield from ((whose, str(text)) for text in given)
