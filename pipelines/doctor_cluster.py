"""What a cluster lacks for a profile, and the line that puts it right. Looks with your own rights, and changes nothing.

Each part answers by itself: a cluster that is away says nothing about the bucket, and the other way round.
"""

import importlib.util
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from model.errors import UserError
from pipelines.doctor import PROMOTE, Finding
from pipelines.profile import Profile

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

CLUSTER = "run on the cluster"
NAMESPACE = "LINGBOT_NAMESPACE"  # where the runs and their jobs are
_SECONDS = 5.0
_PACKAGES = ("kubernetes", "kfp", "kfp.kubernetes", "boto3")
# Custom resources: (group, version, plural), whose they are, which journey, whether it works without.
_RESOURCES = (
    ("argoproj.io", "v1alpha1", "workflows", "Kubeflow Pipelines runs its steps with it", CLUSTER, True),
    ("trainer.kubeflow.org", "v1alpha1", "trainjobs", "training over several nodes, Trainer v2", CLUSTER, False),
    ("kubeflow.org", "v1", "pytorchjobs", "training over several nodes, training operator 1.9", CLUSTER, False),
    ("argoproj.io", "v1alpha1", "sensors", "new data starts a run (k8s/components/triggers)", CLUSTER, False),
    ("kueue.x-k8s.io", "v1beta1", "localqueues", "quotas of training jobs (k8s/components/kueue)", CLUSTER, False),
    ("monitoring.coreos.com", "v1", "servicemonitors", "alerts (k8s/components/monitoring)", PROMOTE, False),
    ("custom.metrics.k8s.io", "v1beta1", "", "the endpoint's autoscaler (prometheus-adapter)", PROMOTE, False),
)  # fmt: skip
# What the launcher of training jobs does (k8s/base/rbac.yaml): verb, group, resource, subresource.
_RIGHTS = (
    ("create", "trainer.kubeflow.org", "trainjobs", ""),
    ("delete", "trainer.kubeflow.org", "trainjobs", ""),
    ("list", "", "pods", ""),
    ("get", "", "pods", "log"),
    ("get", "", "persistentvolumeclaims", ""),
)
# Provisioners whose volumes several nodes can write to.
_SHARED = (
    "nfs",
    "efs",
    "cephfs",
    "filestore",
    "azurefile",
    "azure.file",
    "lustre",
    "juicefs",
    "longhorn",
    "weka",
    "portworx",
)


def examine_cluster(profile: Profile) -> Iterator[Finding]:
    """Every finding about the cluster of a profile."""
    absent = [name for name in _PACKAGES if not _installed(name)]
    yield Finding(
        journey=CLUSTER,
        subject="Python packages",
        found=f"missing: {', '.join(absent)}" if absent else f"all {len(_PACKAGES)}",
        fix="pip install -c constraints.txt '.[k8s,pipelines]'" if absent else "",
    )
    if not absent:
        yield from _kubernetes(profile)
    yield from _images(profile)
    yield from _bucket(profile)
    yield from _mlflow(profile)
    yield from _kfp()


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it is part of
        return False


def _kubernetes(profile: Profile) -> Iterator[Finding]:
    from components.launch.cluster import connect

    try:
        api = connect()
        version = _ask(api, "/version")
    except UserError as error:
        yield Finding(
            journey=CLUSTER, subject="Kubernetes", found=str(error), fix="set KUBECONFIG to a file that names it"
        )
        return
    except Exception as error:  # noqa: BLE001 - whatever keeps the API away is the finding
        yield Finding(
            journey=CLUSTER,
            subject="Kubernetes",
            found=f"does not answer: {_brief(error)}",
            fix="log in again, or choose another context: kubectl config use-context NAME",
        )
        return
    namespace = os.environ.get(NAMESPACE, "lingbot")
    found = version.get("gitVersion", "of an unknown version")
    yield Finding(journey=CLUSTER, subject="Kubernetes", found=f"{api.configuration.host} answers, {found}")
    yield from _answered(namespace, lambda: _resources(api), lambda: _gpus(api, profile))
    place = list(_answered(namespace, lambda: _namespace(api, namespace)))
    yield from place
    if not any(finding.fix and finding.needed for finding in place):  # in none, all else would be missing too
        yield from _answered(
            namespace,
            lambda: _rights(api, namespace),
            lambda: _account(api, namespace, profile),
            lambda: _secrets(api, namespace, profile),
            lambda: _claim(api, namespace, profile),
        )


def _answered(namespace: str, *checks: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """One question without an answer is a finding, and the others go on."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - whatever kept the answer away is the finding
            yield Finding(
                journey=CLUSTER,
                subject="Kubernetes",
                found=f"a question was refused: {_brief(error)}",
                fix=f"ask for the right to look around in namespace '{namespace}'",
                needed=False,
            )


def _resources(api: "ApiClient") -> Iterator[Finding]:
    for group, version, plural, purpose, journey, needed in _RESOURCES:
        known = _ask_or_none(api, f"/apis/{group}/{version}")
        there = known is not None and (not plural or plural in {item["name"] for item in known["resources"]})
        yield Finding(
            journey=journey,
            subject=f"{plural}.{group}" if plural else group,
            found="installed" if there else f"not installed: {purpose}",
            fix="" if there else f"install what serves {group}/{version}, or go without it",
            needed=needed,
        )


def _gpus(api: "ApiClient", profile: Profile) -> Iterator[Finding]:
    """Whether some node has what the largest step asks for: pods of others are not counted."""
    wanted = max((*profile.steps.values(), profile.every_step), key=lambda step: step.gpus)
    if not wanted.gpus:
        return
    nodes = _ask(api, "/api/v1/nodes")["items"]
    able = [
        node["metadata"]["name"]
        for node in nodes
        if wanted.node_selector.items() <= node["metadata"].get("labels", {}).items()
        and int(node["status"].get("allocatable", {}).get(wanted.gpu, 0)) >= wanted.gpus
    ]
    chosen = "".join(f", {key}={value}" for key, value in wanted.node_selector.items())
    yield Finding(
        journey=CLUSTER,
        subject="GPUs",
        found=f"{len(able)} of {len(nodes)} nodes have {wanted.gpus} {wanted.gpu}{chosen}",
        fix="" if able else "lower gpus of the profile's steps or correct their node_selector, or add such a node",
        needed=False,  # an autoscaler may make it
    )


def _namespace(api: "ApiClient", namespace: str) -> Iterator[Finding]:
    there = _ask_or_none(api, f"/api/v1/namespaces/{namespace}") is not None
    yield Finding(
        journey=CLUSTER,
        subject=f"namespace {namespace}",
        found="is there" if there else "is not there",
        fix="" if there else f"kubectl apply --server-side -k k8s/overlays/dev makes lingbot, or set {NAMESPACE}",
    )


def _account(api: "ApiClient", namespace: str, profile: Profile) -> Iterator[Finding]:
    if not profile.service_account:
        return
    held = _ask_or_none(api, f"/api/v1/namespaces/{namespace}/serviceaccounts/{profile.service_account}")
    yield Finding(
        journey=CLUSTER,
        subject=f"service account {profile.service_account}",
        found="is there" if held else "is not there, and Kubeflow would start no pod",
        fix="" if held else "apply k8s/base/service-accounts.yaml, or correct service_account of the profile",
    )


def _rights(api: "ApiClient", namespace: str) -> Iterator[Finding]:
    refused = []
    for verb, group, resource, sub in _RIGHTS:
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = _ask(api, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        if not answer["status"].get("allowed", False):
            refused.append(f"{verb} {resource}{'/' + sub if sub else ''}")
    yield Finding(
        journey=CLUSTER,
        subject=f"rights in namespace '{namespace}'",
        found=f"you may not {', '.join(refused)}" if refused else "enough to launch and follow training jobs",
        fix="bind the Role lingbot-launcher (k8s/base/rbac.yaml) to you or to the runs' account" if refused else "",
        needed=False,
    )


def _secrets(api: "ApiClient", namespace: str, profile: Profile) -> Iterator[Finding]:
    """That they are there and have the keys; no value is shown."""
    wanted: dict[str, list[str]] = {}
    for reference in profile.secrets.values():
        secret, key = reference.split("/", 1)
        wanted.setdefault(secret, []).append(key)
    for secret, keys in wanted.items():
        held = _ask_or_none(api, f"/api/v1/namespaces/{namespace}/secrets/{secret}")
        absent = [key for key in keys if held is None or key not in held.get("data", {})]
        literals = " ".join(f"--from-literal={key}=VALUE" for key in keys)
        yield Finding(
            journey=CLUSTER,
            subject=f"secret {secret}",
            found="is not there" if held is None else f"lacks {', '.join(absent)}" if absent else "has its keys",
            fix=f"kubectl -n {namespace} create secret generic {secret} {literals}" if absent else "",
        )


def _claim(api: "ApiClient", namespace: str, profile: Profile) -> Iterator[Finding]:
    """A claim of several nodes, where the profile's steps share one."""
    if profile.storage.mode != "claim":
        return
    claim = profile.storage.claim
    held = _ask_or_none(api, f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
    modes = held["spec"].get("accessModes", []) if held else []
    phase = (held or {}).get("status", {}).get("phase", "not there")
    works = phase == "Bound" and "ReadWriteMany" in modes
    fix = ""
    if not works:
        listed = _ask_or_none(api, "/apis/storage.k8s.io/v1/storageclasses") or {"items": []}
        able = [c["metadata"]["name"] for c in listed["items"] if any(part in c["provisioner"] for part in _SHARED)]
        choice = (
            f"storageClassName: {' or '.join(able)}" if able else "a StorageClass for NFS, CephFS or the like first"
        )
        fix = f"make it ReadWriteMany (k8s/base/storage.yaml), with {choice}; or storage.mode: object in the profile"
    yield Finding(
        journey=CLUSTER,
        subject=f"claim {claim}",
        found=f"{phase}{', ' + ' and '.join(modes) if modes else ''}",
        fix=fix,
    )


def _images(profile: Profile) -> Iterator[Finding]:
    tagged = profile.tagged()
    fix = "containers/build.py --push REGISTRY, then lingbot compile --images build/images/images.yaml"
    yield Finding(
        journey=CLUSTER,
        subject="images",
        found=f"by tag: {', '.join(tagged)}" if tagged else "by digest",
        fix=fix if tagged else "",
        needed=False,
    )


def _bucket(profile: Profile) -> Iterator[Finding]:
    url = profile.storage.url
    if not url:
        return
    from components.adapters.storage import Storage

    try:
        Storage.from_url(url).probe()
    except UserError as error:
        fix = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, or correct storage.url of the profile"
        yield Finding(journey=CLUSTER, subject="bucket", found=str(error), fix=fix)
    else:
        yield Finding(journey=CLUSTER, subject="bucket", found=f"{url} answers")


def _mlflow(profile: Profile) -> Iterator[Finding]:
    address = os.environ.get("MLFLOW_TRACKING_URI") or profile.environment.get("MLFLOW_TRACKING_URI", "")
    if not address.startswith("http"):
        yield Finding(
            journey=CLUSTER,
            subject="MLflow",
            found=f"MLFLOW_TRACKING_URI is '{address}', which steps on a cluster do not share",
            fix="name a server in environment of the profile: http://lingbot-mlflow.lingbot.svc:5000 (k8s/base/mlflow)",
        )
        return
    host = urlsplit(address).hostname or ""
    inside = ".svc" in host
    try:
        version = _get(f"{address.rstrip('/')}/version").strip()
    except OSError as error:
        yield Finding(
            journey=CLUSTER,
            subject="MLflow",
            found=f"{address} does not answer from here: {_brief(error)}",
            fix="kubectl -n lingbot port-forward svc/lingbot-mlflow 5000, and MLFLOW_TRACKING_URI=http://localhost:5000",
            needed=not inside,  # the name is one of the cluster's: the pods may well see it
        )
    else:
        yield Finding(journey=CLUSTER, subject="MLflow", found=f"{address} answers, {version}")


def _kfp() -> Iterator[Finding]:
    address = os.environ.get("KFP_ENDPOINT", "")
    forward = "kubectl -n kubeflow port-forward svc/ml-pipeline 8888, and KFP_ENDPOINT=http://localhost:8888"
    if not address:
        yield Finding(journey=CLUSTER, subject="Kubeflow Pipelines", found="KFP_ENDPOINT is not set", fix=forward)
        return
    try:
        health = json.loads(_get(f"{address.rstrip('/')}/apis/v2beta1/healthz"))
    except (OSError, ValueError) as error:
        found = f"{address} does not answer as KFP 2 does: {_brief(error)}"
        yield Finding(journey=CLUSTER, subject="Kubeflow Pipelines", found=found, fix=forward)
    else:
        users = "for several users" if health.get("multi_user") else "for one user"
        found = f"{address} answers, {health.get('tag_name') or 'no version'}, {users}"
        yield Finding(journey=CLUSTER, subject="Kubeflow Pipelines", found=found)


def _get(address: str) -> str:
    # Not through a proxy: these are addresses of a cluster, or forwarded ones.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=_SECONDS) as reply:
        return str(reply.read(65536).decode("utf-8", errors="replace"))


def _ask(api: "ApiClient", path: str, body: Any = None) -> dict[str, Any]:
    """One call of the API, once: a doctor does not wait."""
    reply = api.call_api(
        path,
        "POST" if body is not None else "GET",
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        body=body,
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
        _request_timeout=(_SECONDS, _SECONDS),
    )
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


def _ask_or_none(api: "ApiClient", path: str) -> dict[str, Any] | None:
    from kubernetes.client import ApiException

    try:
        return _ask(api, path)
    except ApiException as error:
        if error.status != 404:
            raise
        return None


def _brief(error: Exception) -> str:
    from components.adapters.api_calls import brief

    if isinstance(error, urllib.error.URLError) and error.reason:
        return str(error.reason)
    return brief(error)[:200]
