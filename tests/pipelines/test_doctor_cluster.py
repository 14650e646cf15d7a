"""The doctor of a cluster: each thing that is missing is named with its fix, and nothing is changed or shown."""

import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import doctor, doctor_cluster
from pipelines.cli import main
from pipelines.doctor import PROMOTE, Finding, report_lines
from pipelines.doctor_cluster import CLUSTER, examine_cluster
from pipelines.profile import Profile, load_profile
from tests.components.launch.kubeconfig import write_kubeconfig
from tests.pipelines.cluster_answers import SECRET, Cluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with Cluster() as made:
        write_kubeconfig(tmp_path / "kubeconfig", made.url)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KFP_ENDPOINT", made.url)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
        monkeypatch.delenv("LINGBOT_NAMESPACE", raising=False)
        monkeypatch.setattr(doctor_cluster, "_SECONDS", 60.0)  # what is there answers, also on a machine that stalls
        yield made


@pytest.fixture
def profile() -> Profile:
    """The H100 example without its bucket, whose absence has a test of its own."""
    given = load_profile("h100")
    digests = dict.fromkeys(("data", "train", "simulation"), f"x@sha256:{'a' * 64}")
    return dataclasses.replace(given.with_images(digests), storage=dataclasses.replace(given.storage, url=""))


def about(findings: list[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens. Its port is held: no other process gets it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def test_a_cluster_that_has_everything(cluster: Cluster, profile: Profile) -> None:
    findings = list(examine_cluster(profile))
    assert [finding for finding in findings if finding.fix] == []
    assert about(findings, "Kubernetes").found == f"{cluster.url} answers, v1.32.4"
    assert "2.14.0, for several users" in about(findings, "Kubeflow Pipelines").found
    assert f"{CLUSTER}: ready" in report_lines(findings)


def test_looking_changes_nothing(cluster: Cluster, profile: Profile) -> None:
    list(examine_cluster(profile))
    written = {path for verb, path in cluster.asked if verb != "GET"}
    assert written == {"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"}, "a question, which is asked by POST"


@pytest.mark.parametrize(
    ("path", "subject", "journey", "needed"),
    [
        ("/apis/argoproj.io/v1alpha1", "workflows.argoproj.io", CLUSTER, True),
        ("/apis/trainer.kubeflow.org/v1alpha1", "trainjobs.trainer.kubeflow.org", CLUSTER, False),
        ("/apis/kueue.x-k8s.io/v1beta1", "localqueues.kueue.x-k8s.io", CLUSTER, False),
        ("/apis/custom.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io", PROMOTE, False),
    ],
)
def test_a_resource_that_is_not_installed(
    cluster: Cluster, profile: Profile, path: str, subject: str, journey: str, needed: bool
) -> None:
    cluster.gone.add(path)
    found = about(list(examine_cluster(profile)), subject)
    assert found.found.startswith("not installed") and path.removeprefix("/apis/") in found.fix
    assert (found.journey, found.needed) == (journey, needed)


def test_a_group_without_the_resource_counts_as_not_installed(cluster: Cluster, profile: Profile) -> None:
    cluster.objects["/apis/kubeflow.org/v1"] = {"resources": [{"name": "mpijobs"}]}
    assert about(list(examine_cluster(profile)), "pytorchjobs.kubeflow.org").fix


def test_sensors_are_asked_for_beside_workflows(cluster: Cluster, profile: Profile) -> None:
    cluster.objects["/apis/argoproj.io/v1alpha1"] = {"resources": [{"name": "workflows"}]}
    findings = list(examine_cluster(profile))
    missing = about(findings, "sensors.argoproj.io")
    assert missing.fix and not missing.needed and about(findings, "workflows.argoproj.io").fix == ""


def test_of_a_namespace_that_is_not_there_nothing_else_is_said(cluster: Cluster, profile: Profile) -> None:
    cluster.gone.add("/api/v1/namespaces/lingbot")
    findings = list(examine_cluster(profile))
    absent = about(findings, "namespace lingbot")
    assert absent.found == "is not there" and absent.needed and "LINGBOT_NAMESPACE" in absent.fix
    assert not [finding for finding in findings if finding.subject.startswith(("secret", "claim", "rights"))]


def test_an_account_that_is_not_there(cluster: Cluster, profile: Profile) -> None:
    named = dataclasses.replace(profile, service_account="lingbot-pipeline")
    assert about(list(examine_cluster(named)), "service account lingbot-pipeline").fix == ""
    cluster.gone.add("/api/v1/namespaces/lingbot/serviceaccounts/lingbot-pipeline")
    absent = about(list(examine_cluster(named)), "service account lingbot-pipeline")
    assert absent.needed and "would start no pod" in absent.found and absent.fix


@pytest.mark.parametrize("change", ["fewer", "of another kind"])
def test_gpus_that_no_node_has(cluster: Cluster, profile: Profile, change: str) -> None:
    assert about(list(examine_cluster(profile)), "GPUs").found.startswith("1 of 2 nodes have 8 nvidia.com/gpu, ")
    large = cluster.objects["/api/v1/nodes"]["items"][1]
    if change == "fewer":
        large["status"]["allocatable"]["nvidia.com/gpu"] = "7"
    else:
        large["metadata"]["labels"]["nvidia.com/gpu.product"] = "NVIDIA-L4"
    found = about(list(examine_cluster(profile)), "GPUs")
    assert found.found.startswith("0 of 2") and "node_selector" in found.fix and not found.needed


def test_rights_that_are_missing_are_named_together(cluster: Cluster, profile: Profile) -> None:
    cluster.denied |= {"create trainjobs", "list pods"}
    found = about(list(examine_cluster(profile)), "rights in namespace 'lingbot'")
    assert found.found == "you may not create trainjobs, list pods" and "lingbot-launcher" in found.fix


def test_a_secret_that_is_missing_or_lacks_a_key(cluster: Cluster, profile: Profile) -> None:
    path = "/api/v1/namespaces/lingbot/secrets/lingbot-s3"
    cluster.objects[path] = {"data": {"access-key": SECRET}}
    lacking = about(list(examine_cluster(profile)), "secret lingbot-s3")
    assert lacking.found == "lacks secret-key" and lacking.needed
    cluster.gone.add(path)
    absent = about(list(examine_cluster(profile)), "secret lingbot-s3")
    assert absent.found == "is not there"
    assert absent.fix.startswith("kubectl -n lingbot create secret generic lingbot-s3 --from-literal=access-key=VALUE")


def test_no_value_of_a_secret_is_shown(cluster: Cluster, profile: Profile) -> None:
    assert SECRET not in repr(list(examine_cluster(profile)))


def test_a_claim_that_one_node_alone_can_mount(cluster: Cluster, profile: Profile) -> None:
    path = "/api/v1/namespaces/lingbot/persistentvolumeclaims/lingbot-shared"
    cluster.objects[path]["spec"]["accessModes"] = ["ReadWriteOnce"]
    found = about(list(examine_cluster(profile)), "claim lingbot-shared")
    assert found.found == "Bound, ReadWriteOnce" and found.needed
    assert "storageClassName: shared;" in found.fix, "of the two classes, the one whose volumes are shared"
    cluster.gone.add(path)
    assert about(list(examine_cluster(profile)), "claim lingbot-shared").found == "not there"


def test_in_object_mode_no_claim_is_asked_for(cluster: Cluster) -> None:
    findings = list(doctor_cluster._claim(None, "lingbot", load_profile("cluster")))  # type: ignore[arg-type]
    assert findings == []


@pytest.mark.parametrize(
    "path", ["/api/v1/nodes", "/api/v1/namespaces/lingbot", "/api/v1/namespaces/lingbot/secrets/lingbot-s3"]
)
def test_one_refused_question_leaves_the_others(cluster: Cluster, profile: Profile, path: str) -> None:
    cluster.refused.add(path)
    findings = list(examine_cluster(profile))
    refused = [finding for finding in findings if "a question was refused: 403" in finding.found]
    assert len(refused) == 1 and not refused[0].needed
    assert about(findings, "claim lingbot-shared").fix == ""


def test_a_cluster_that_does_not_answer_leaves_the_services(
    cluster: Cluster, profile: Profile, nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "away", nobody)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "away"))
    findings = list(examine_cluster(profile))
    away = about(findings, "Kubernetes")
    assert away.found.startswith("does not answer") and away.needed and "use-context" in away.fix
    assert about(findings, "MLflow").fix == "" and about(findings, "Kubeflow Pipelines").fix == ""


def test_services_that_are_away_are_told_with_how_to_reach_them(
    cluster: Cluster, profile: Profile, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    monkeypatch.setenv("KFP_ENDPOINT", nobody)
    findings = list(examine_cluster(profile))
    for subject in ("MLflow", "Kubeflow Pipelines"):
        found = about(findings, subject)
        assert "does not answer" in found.found and "port-forward" in found.fix and found.needed
    monkeypatch.delenv("KFP_ENDPOINT")
    assert about(list(examine_cluster(profile)), "Kubeflow Pipelines").found == "KFP_ENDPOINT is not set"


def test_what_answers_and_is_no_kfp(cluster: Cluster, profile: Profile) -> None:
    cluster.gone.add("/apis/v2beta1/healthz")
    assert "does not answer as KFP 2 does" in about(list(examine_cluster(profile)), "Kubeflow Pipelines").found


def test_a_registry_in_a_file_is_not_one_of_a_cluster(
    cluster: Cluster, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert "do not share" in about(list(examine_cluster(profile)), "MLflow").found


def test_images_by_tag_are_a_note(cluster: Cluster) -> None:
    found = next(doctor_cluster._images(load_profile("cluster")))
    assert "data, simulation, train" in found.found and not found.needed and "containers/build.py" in found.fix


def test_a_bucket_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    found = next(doctor_cluster._bucket(load_profile("cluster")))
    assert found.subject == "bucket" and found.needed and "AWS_ENDPOINT_URL" in found.fix
    assert "it must be http://host:port" in found.found


def test_the_command_asks_the_cluster_of_its_profile_alone(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_CHECKS", (doctor._python,))
    monkeypatch.setattr(doctor_cluster, "_bucket", lambda profile: iter(()))
    assert main(["doctor"]) == 0
    assert CLUSTER not in capsys.readouterr().out and cluster.asked == []
    assert main(["doctor", "--profile", "h100"]) == 0
    assert f"{CLUSTER}: ready" in capsys.readouterr().out
    cluster.gone.add("/apis/argoproj.io/v1alpha1")
    assert main(["doctor", "--profile", "h100"]) == 2
    assert f"{CLUSTER}: not ready" in capsys.readouterr().out
