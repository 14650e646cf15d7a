"""What the objects of an overlay say of each other holds, and each rule of it notices what it is for."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from components.launch.settings import load_settings
from pipelines.cluster.api import _TOKEN as TOKEN
from pipelines.profile import load_profile
from tests.k8s import coherence
from tests.k8s.generated import SETTINGS
from tests.k8s.manifests import K8S, OVERLAYS, Object, build, find, of_kind, pods
from tests.k8s.policy import PROBES, Rule, references

Change = Callable[[list[Object]], Any]
STORE = {
    "AWS_ENDPOINT_URL": "lingbot-settings/s3-endpoint",
    "AWS_ACCESS_KEY_ID": "lingbot-s3/access-key",
    "AWS_SECRET_ACCESS_KEY": "lingbot-s3/secret-key",
}
REGION = {"AWS_DEFAULT_REGION": "lingbot-settings/s3-region"}
ENVIRONMENT = {
    "Deployment lingbot-endpoint": {
        **STORE,
        **REGION,
        "LINGBOT_HOME": "/var/lib/lingbot",
        "LINGBOT_API_KEYS_FILE": "/etc/lingbot/keys/keys.json",
        "LINGBOT_STORAGE": "lingbot-settings/storage",
        "MLFLOW_TRACKING_URI": "http://lingbot-mlflow:5000",
    },
    "Deployment lingbot-mlflow": {
        **STORE,
        **REGION,
        "MLFLOW_BACKEND_STORE_URI": "lingbot-mlflow/backend-store-uri",
        "MLFLOW_ARTIFACTS_DESTINATION": "lingbot-settings/mlflow-artifacts",
    },
    "Job of Sensor lingbot-data": {
        **STORE,
        "AWS_REGION": "lingbot-settings/s3-region",
        "LINGBOT_HOME": "/var/lib/lingbot",
        "LINGBOT_NAMESPACE": "metadata.namespace",
    },
}
RIGHTS = {
    "lingbot-event-sensor": {("batch", "jobs"): {"create"}},
    # A Kubeflow of several users asks Kubernetes whether an account may do these.
    "lingbot-trigger": {
        ("pipelines.kubeflow.org", "experiments"): {"create", "get", "list"},
        ("pipelines.kubeflow.org", "pipelines"): {"create", "get", "list"},
        ("pipelines.kubeflow.org", "pipelines/versions"): {"create", "get", "list"},
        ("pipelines.kubeflow.org", "runs"): {"create", "get", "list", "terminate", "archive"},
    },
}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("rule", coherence.RULES, ids=lambda rule: rule.__name__)
def test_the_overlays_cohere(overlay: str, rule: Rule) -> None:
    assert list(rule(build(overlay))) == []


def source(item: Object) -> str:
    """A variable's value, or the key that it comes from, without the hash that kustomize adds to a name."""
    given = item.get("valueFrom", {})
    if "fieldRef" in given:
        return str(given["fieldRef"]["fieldPath"])
    reference = given.get("configMapKeyRef") or given.get("secretKeyRef")
    if not reference:
        return str(item["value"])
    called = "lingbot-settings" if reference["name"].startswith("lingbot-settings-") else reference["name"]
    return f"{called}/{reference['key']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_of_ours_has_its_environment(overlay: str) -> None:
    for whose, template in pods(build(overlay)):
        if whose in ENVIRONMENT:
            (container,) = template["spec"]["containers"]
            found = {item["name"]: source(item) for item in container["env"]}
            found.pop("MLFLOW_SERVER_ALLOWED_HOSTS", None)
            assert found == ENVIRONMENT[whose]


@pytest.mark.parametrize("called", RIGHTS)
def test_the_rights_of_triggers_are_these_and_no_more(called: str) -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in find(build("prod"), "Role", called)["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    assert found == RIGHTS[called]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_files_of_others_reach_the_cluster_whole(overlay: str) -> None:
    objects = build(overlay)
    assert find(objects, "ConfigMap", "lingbot-training")["data"] == {"settings.yaml": SETTINGS.read_text()}
    rules = K8S / "components/monitoring/adapter-rules.yaml"
    held = find(objects, "ConfigMap", "lingbot-adapter-rules")["data"][rules.name]
    assert yaml.safe_load(held) == yaml.safe_load(rules.read_text())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_shared_claim_is_the_one_that_jobs_and_steps_mount(overlay: str) -> None:
    settings, profile = load_settings(SETTINGS), load_profile("h100")
    assert (settings.storage.claim, settings.storage.mount) == (profile.storage.claim, profile.storage.mount)
    claim = find(build(overlay), "PersistentVolumeClaim", settings.storage.claim)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert overlay == "dev" or claim["spec"]["storageClassName"], "the default class of most clusters is of one node"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_are_patient_with_a_start_and_not_with_a_pod_that_is_stuck(overlay: str) -> None:
    objects = build(overlay)
    for called in ("lingbot-endpoint", "lingbot-mlflow"):
        spec = find(objects, "Deployment", called)["spec"]
        container = spec["template"]["spec"]["containers"][0]
        seconds = {
            probe: container[probe].get("periodSeconds", 10) * container[probe].get("failureThreshold", 3)
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert 300 <= seconds["startupProbe"] <= spec.get("progressDeadlineSeconds", 600)
        assert 60 <= seconds["livenessProbe"] <= 120 and seconds["readinessProbe"] <= 15
        assert all(1 < container[probe].get("timeoutSeconds", 2) <= 5 for probe in seconds), "1 s is a busy moment"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_are_those_that_everybody_knows(overlay: str) -> None:
    services = {
        item["metadata"]["name"]: [port["port"] for port in item["spec"]["ports"]]
        for item in of_kind(build(overlay), "Service")
    }
    assert services == {
        "lingbot-endpoint": [8000],
        "lingbot-endpoint-metrics": [9400],
        "lingbot-mlflow": [5000],
        "lingbot-postgres": [5432],
    }
    assert find(build(overlay), "Service", "lingbot-postgres")["spec"]["clusterIP"] == "None", "a StatefulSet's"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_mlflow_is_asked_where_it_listens(overlay: str) -> None:
    (container,) = find(build(overlay), "Deployment", "lingbot-mlflow")["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert {"--host=0.0.0.0", f"--port={port['containerPort']}"} < {*container["args"]}
    for probe in PROBES:
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_database_is_the_one_that_mlflow_s_secret_names(overlay: str) -> None:
    """As the README has the secret made."""
    found = re.search(r"backend-store-uri=\S+://(\w+):P@([\w-]+):(\d+)/(\w+)", (K8S / "README.md").read_text())
    assert found
    user, service, port, database = found.groups()
    objects = build(overlay)
    pod = find(objects, "StatefulSet", "lingbot-postgres")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {item["name"]: source(item) for item in container["env"]}
    (data,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "data"]
    assert environment == {
        "POSTGRES_USER": user,
        "POSTGRES_DB": database,
        "POSTGRES_PASSWORD": "lingbot-mlflow/postgres-password",
        "PGDATA": f"{data}/pgdata",
    }
    for probe in PROBES:
        assert container[probe]["exec"]["command"] == ["pg_isready", "-U", user, "-d", database]
    assert find(objects, "Service", service)["spec"]["ports"][0]["port"] == int(port)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert "/var/run/postgresql" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_in_production_a_replica_has_a_gpu_and_may_run_where_they_are() -> None:
    pod = find(build("prod"), "Deployment", "lingbot-endpoint")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


def test_training_runs_a_digest_and_waits_in_a_queue_that_there_is() -> None:
    objects, settings = build("prod"), load_settings(SETTINGS)
    runtime = find(objects, "TrainingRuntime", settings.runtime)
    held: list[Any] = list(references(runtime, "containers"))
    images = [container["image"] for containers in held for container in containers]
    assert images and all("@sha256:" in image for image in images)
    queue = find(objects, "LocalQueue", settings.scheduling.queue)
    assert find(objects, "ClusterQueue", queue["spec"]["clusterQueue"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_trigger_s_job_finds_its_files_and_is_not_restarted_in_place(overlay: str) -> None:
    (spec,) = [template["spec"] for whose, template in pods(build(overlay)) if whose == "Job of Sensor lingbot-data"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["command"] == ["lingbot"] and spec["restartPolicy"] == "Never"
    options = dict(zip(container["args"][2::2], container["args"][3::2], strict=True))
    assert options["--profile"] == f"{mounts['settings']}/profile.yaml"
    assert options["--images"] == f"{mounts['settings']}/images.yaml"
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    token = volumes["kubeflow"]["projected"]["sources"][0]["serviceAccountToken"]
    assert f"{mounts['kubeflow']}/{token['path']}" == TOKEN
    assert token["expirationSeconds"] >= 600, "Kubernetes gives none for less"
    settings = volumes["settings"]["configMap"]["name"]
    assert f"create configmap {settings} " in (K8S.parent / "docs/triggers.md").read_text()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_bucket_s_notifications_are_fetched_with_the_store_s_keys(overlay: str) -> None:
    (events,) = of_kind(build(overlay), "EventSource")
    for field, key in (("accessKey", "access-key"), ("secretKey", "secret-key")):
        assert list(references(events["spec"], field)) == [{"name": "lingbot-s3", "key": key}]


def pod(objects: list[Object]) -> Object:
    found: Object = find(objects, "Deployment", "lingbot-endpoint")["spec"]["template"]["spec"]
    return found


def container(objects: list[Object]) -> Object:
    found: Object = pod(objects)["containers"][0]
    return found


def spec(kind: str, called: str) -> Callable[[list[Object]], Object]:
    return lambda objects: find(objects, kind, called)["spec"]


BREAKS: list[tuple[Rule, Change, str]] = [
    (
        coherence.everything_is_in_the_namespace,
        lambda o: find(o, "ServiceAccount", "lingbot-mlflow")["metadata"].update(namespace="default"),
        "is in namespace default",
    ),
    (
        coherence.everything_is_in_the_namespace,
        lambda o: find(o, "RoleBinding", "lingbot-launcher")["subjects"].clear(),
        "to nobody",
    ),
    (
        coherence.everything_is_in_the_namespace,
        lambda o: find(o, "RoleBinding", "lingbot-launcher")["roleRef"].pop("apiGroup"),
        "of the group None",
    ),
    (
        coherence.workloads_select_their_own,
        lambda o: spec("Deployment", "lingbot-mlflow")(o)["selector"]["matchLabels"].update(a="b"),
        "its selector does not take",
    ),
    (
        coherence.workloads_select_their_own,
        lambda o: pod(o)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].clear(),
        "its spread does not take",
    ),
    (
        coherence.workloads_select_their_own,
        lambda o: spec("StatefulSet", "lingbot-postgres")(o).update(serviceName="x"),
        "named by x",
    ),
    (coherence.mounts_meet, lambda o: container(o)["volumeMounts"][0].update(name="x"), "x is no volume"),
    (coherence.mounts_meet, lambda o: container(o)["volumeMounts"].pop(2), "keys is mounted by nobody"),
    (coherence.mounts_meet, lambda o: container(o)["volumeMounts"].pop(1), "has no /tmp"),
    (coherence.mounts_meet, lambda o: container(o)["volumeMounts"][0].update(readOnly=True), "has no LINGBOT_HOME"),
    (coherence.mounts_meet, lambda o: container(o)["env"][0].update(value="/srv"), "has no LINGBOT_HOME"),
    (
        coherence.probes_and_volumes_are_whole,
        lambda o: container(o)["startupProbe"].pop("httpGet"),
        "startupProbe asks",
    ),
    (coherence.probes_and_volumes_are_whole, lambda o: pod(o)["volumes"][1].pop("emptyDir"), "tmp is of 0 kinds"),
    (coherence.files_can_be_read, lambda o: pod(o)["securityContext"].update(runAsUser=1001), "runs as"),
    (coherence.files_can_be_read, lambda o: pod(o)["securityContext"].pop("fsGroup"), "cannot read the files of keys"),
    (
        coherence.requests_fit,
        lambda o: container(o)["resources"]["requests"].update(memory="1Ti"),
        "memory of at most",
    ),
    (
        coherence.requests_fit,
        lambda o: container(o)["resources"]["requests"].pop("nvidia.com/gpu"),
        "0 nvidia.com/gpu of at most 1",
    ),
    (
        coherence.requests_fit,
        lambda o: pod(o)["volumes"][0]["emptyDir"].update(sizeLimit="60Gi"),
        "more than its ephemeral storage",
    ),
    (
        coherence.addresses_lead_somewhere,
        lambda o: find(o, "Service", "lingbot-mlflow")["metadata"].update(name="mlflow"),
        "calls lingbot-mlflow:5000",
    ),
    (
        coherence.addresses_lead_somewhere,
        lambda o: spec("Service", "lingbot-mlflow")(o)["ports"][0].update(port=80),
        "calls lingbot-mlflow:5000",
    ),
    (
        coherence.replicas_are_the_scaler_s_to_say,
        lambda o: spec("Deployment", "lingbot-endpoint")(o).update(replicas=3),
        "names its own replicas",
    ),
    (
        coherence.replicas_are_the_scaler_s_to_say,
        lambda o: spec("HorizontalPodAutoscaler", "lingbot-endpoint")(o)["scaleTargetRef"].update(name="endpoint"),
        "or is none that it knows",
    ),
    (
        coherence.replicas_are_the_scaler_s_to_say,
        lambda o: spec("HorizontalPodAutoscaler", "lingbot-endpoint")(o).update(maxReplicas=3),
        "cannot scale",
    ),
    (
        coherence.budgets_take_one_at_a_time,
        lambda o: spec("PodDisruptionBudget", "lingbot-mlflow")(o)["selector"].pop("matchLabels"),
        "is about pods of others",
    ),
    (
        coherence.budgets_take_one_at_a_time,
        lambda o: spec("PodDisruptionBudget", "lingbot-mlflow")(o).update(maxUnavailable=2),
        "lets more than one go",
    ),
    (
        coherence.tokens_go_to_those_with_rights,
        lambda o: find(o, "ServiceAccount", "lingbot-endpoint").pop("automountServiceAccountToken"),
        "its pods get a token",
    ),
]


@pytest.mark.parametrize(("rule", "change", "message"), BREAKS, ids=[f"{r.__name__}-{m}" for r, _, m in BREAKS])
def test_a_rule_of_coherence_notices(rule: Rule, change: Change, message: str) -> None:
    objects = build("prod")
    change(objects)
    assert any(message in line for line in rule(objects)), list(rule(objects))
