"""Profiles: read strictly, kept in a run's record, and what of them a step's pod gets."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.images import IMAGES
from components.steps import STEPS
from model.errors import UserError
from model.hardware import THREAD_VARIABLES
from pipelines import ir
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.pod import HOME
from pipelines.profile import PROFILES, Profile, StepSettings, Storage, load_images, load_profile

SHIPPED = sorted(path.stem for path in PROFILES.glob("*.yaml"))
CLUSTER = "runner: cluster\nstorage: {url: s3://bucket}\n"


@pytest.fixture(scope="module")
def h100(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Executor -> container, and executor -> pod, of the example of an H100 cluster."""
    folder = tmp_path_factory.mktemp("h100")
    pipeline, platform = ir.load(compile_pipeline(load_parameters(), load_profile("h100"), folder))
    executors = pipeline["deploymentSpec"]["executors"]
    return {name: executor["container"] for name, executor in executors.items()}, ir.pods(platform)


@pytest.fixture(scope="module")
def on_cluster(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both documents of the pipeline for the example of a cluster."""
    return ir.load(compile_pipeline(load_parameters(), load_profile("cluster"), tmp_path_factory.mktemp("cluster")))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads_and_survives_the_record_of_a_run(name: str) -> None:
    profile = load_profile(name)
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "laptop"])
def test_a_shipped_cluster_bounds_every_step(name: str) -> None:
    profile = load_profile(name)
    for step in STEPS:
        settings = profile.steps.get(step, profile.every_step)
        assert settings.cpu and settings.memory and settings.scratch, f"{step}: a pod without limits"
        assert settings.timeout and settings.retries, f"{step}: without a time limit or a retry"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runner: cloud", "unknown value of runner.*'cloud'"),
        ("threads: 2", "has no 'runner'"),
        ("runner: local\nimage: {}", "unknown key of profile.*Did you mean 'images'"),
        ("runner: local\nimages: {trian: x}", "unknown image role.*Did you mean 'train'"),
        ("runner: local\nsteps: {pakc: {cpu: 1}}", "unknown step in the profile.*Did you mean 'pack'"),
        ("runner: local\nsteps: {pack: {gpuss: 1}}", "unknown key of steps.pack.*Did you mean 'gpus'"),
        ("runner: local\nsteps: {pack: {gpus: two}}", "steps.pack.gpus is 'two': it must be a whole number"),
        ("runner: local\nsteps: {pack: {memory: 8 GB}}", "steps.pack.memory is '8 GB': it must be a whole number of"),
        ("runner: local\nevery_step: {memory: 1.5Gi}", "every_step.memory is '1.5Gi': it must be .* or 1536Mi"),
        ("runner: local\nevery_step: {cpu: 4Gi}", "every_step.cpu is '4Gi': it must be cores such as 4, 0.5 or 500m"),
        ("runner: local\nevery_step: {cpu: 0.0}", "every_step.cpu is 0.0: it must be more than 0"),
        ("runner: local\nevery_step: {memory: 1Gi, shm: 1025Mi}", "every_step.shm is 1025Mi and .* counts as memory"),
        ("runner: local\nsteps: {pack: {timeout: -1}}", "steps.pack.timeout is -1: it must be 0 or more"),
        ("runner: local\nsteps: {pack: {node_selector: {a b: c}}}", "steps.pack.node_selector is 'a b'"),
        ("runner: local\nsteps: {pack: 3}", "steps.pack holds 3: it must hold a mapping"),
        ("runner: local\nevery_step: {tolerations: [{operator: Equal}]}", "operator must be Exists"),
        ("runner: local\nthreads: -1", "must be 0"),
        ("runner: cluster", "has no storage.url.*s3://bucket/prefix"),
        ("runner: cluster\nstorage: {mode: claim}", "storage.mode is claim without storage.claim"),
        ("runner: cluster\nstorage: {claim: shared}", "set storage.mode to claim"),
        ("runner: cluster\nstorage: {url: /data}", "a pod sees no folder of yours"),
        ("runner: cluster\nstorage: {url: 's3://'}", "storage.url is 's3://': it must be s3://bucket/prefix"),
        ("runner: cluster\nstorage: {url: 's3://[b'}", r"storage.url is 's3://\[b': it must be s3://bucket/prefix"),
        ("runner: cluster\nstorage: {url: https://s3/b}", "storage.url is 'https://s3/b': it must be s3://bucket"),
        (CLUSTER + "environment: {LINGBOT_HOME: /x}", "sets LINGBOT_HOME: it follows from storage"),
        (CLUSTER + "secrets: {LINGBOT_RUN_ID: a/b}", "sets LINGBOT_RUN_ID: it follows from the run"),
        (CLUSTER + "images: {data: Lingbot/Data}", "images.data is 'Lingbot/Data': it must be an image such as"),
        (CLUSTER + "images: {data: 'a/b@sha256:12'}", "images.data is 'a/b@sha256:12': it must be"),
        (CLUSTER + "image_pull_secrets: [a b]", r"image_pull_secrets\[0\] is 'a b'"),
        (CLUSTER + "secrets: {KEY: justname}", "secrets.KEY is 'justname'.*for example s3/access-key"),
        (CLUSTER + "secrets: {A: s/k}\nenvironment: {A: x}", "A stands in environment and in secrets"),
        (CLUSTER + "labels: {team: 'a b'}", "labels.team is 'a b'"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_profile(str(path))


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("runner: local\nthreads: 3\n")
    assert load_profile(str(path)) == Profile(name="mine", runner="local", threads=3)
    with pytest.raises(UserError, match="there is no profile file"):
        load_profile(str(tmp_path / "none.yaml"))


def test_a_step_says_what_differs_from_every_step(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(CLUSTER + "every_step: {cpu: 2, memory: 4Gi}\nsteps: {pack: {memory: 8Gi}}")
    assert load_profile(str(path)).steps["pack"] == StepSettings(cpu="2", memory="8Gi")


def test_images_by_digest_come_from_the_builder(tmp_path: Path) -> None:
    path = tmp_path / "images.yaml"
    digests = {role: f"registry.example.com/{role}@sha256:{'0' * 64}" for role in IMAGES}
    path.write_text(json.dumps(digests))
    profile = load_profile("cluster")
    assert profile.tagged() == ["data", "simulation", "train"]
    assert profile.with_images({"data": digests["data"]}).tagged() == ["simulation", "train"]
    assert profile.with_images(load_images(path)).tagged() == []
    path.write_text(yaml.safe_dump({"trian": "x"}))
    with pytest.raises(UserError, match="Did you mean 'train'"):
        load_images(path)


def test_gpus_go_to_training_and_tokens_alone(h100: tuple[dict[str, Any], dict[str, Any]]) -> None:
    containers, pods = h100
    counts = {
        name: int(c["resources"].get("accelerator", {}).get("resourceCount", 0)) for name, c in containers.items()
    }
    wanted = {"exec-pretrain": 8, "exec-finetune": 8, "exec-extract-depth-tokens": 1, "exec-evaluate": 1}
    assert {name: count for name, count in counts.items() if count} == wanted
    for name in containers:
        has_gpu = name in wanted
        assert bool(pods[name].get("tolerations")) is has_gpu and bool(pods[name].get("nodeSelector")) is has_gpu
    assert containers["exec-pretrain"]["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert pods["exec-pretrain"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_shared_memory_scratch_and_the_claim_are_mounted(h100: tuple[dict[str, Any], dict[str, Any]]) -> None:
    containers, pods = h100
    volumes = {item["volumeName"]: item for item in pods["exec-pretrain"]["emptyDirMounts"]}
    assert volumes["shm"] == {
        "volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "128Gi"
    }  # fmt: skip
    assert volumes["scratch"]["mountPath"] == HOME and volumes["scratch"]["sizeLimit"] == "500Gi"
    (claim,) = pods["exec-pretrain"]["pvcMount"]
    assert (claim["constant"], claim["mountPath"]) == ("lingbot-shared", "/mnt/lingbot")
    environment = {item["name"]: item["value"] for item in containers["exec-pretrain"]["env"]}
    assert environment["LINGBOT_HOME"] == "/mnt/lingbot"
    assert environment["LINGBOT_STORAGE"] == "s3://lingbot/pipelines"


def test_in_object_mode_nothing_is_shared_but_the_store(on_cluster: tuple[dict[str, Any], dict[str, Any]]) -> None:
    pipeline, platform = on_cluster
    assert all("pvcMount" not in pod for pod in ir.pods(platform).values())
    for executor in pipeline["deploymentSpec"]["executors"].values():
        environment = {item["name"]: item["value"] for item in executor["container"]["env"]}
        assert environment["LINGBOT_HOME"] == HOME
        assert environment["LINGBOT_STORAGE"] == load_profile("cluster").storage.url


def test_a_pod_says_who_pays_runs_without_rights_and_knows_its_image_and_run(
    h100: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    containers, pods = h100
    for name, pod in pods.items():
        labels = pod["podMetadata"]["labels"]
        assert labels["cost-centre"] == "robots" and labels["lingbot/step"] == name[5:].replace("-", "_")
        assert labels["sidecar.istio.io/inject"] == "false"
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == "1000"
        (run,) = pod["fieldPathAsEnv"]
        assert run == {"name": "LINGBOT_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        environment = {item["name"]: item["value"] for item in containers[name]["env"]}
        assert environment["LINGBOT_IMAGE"] == containers[name]["image"]


def test_a_pod_computes_with_as_many_threads_as_it_reserves(
    h100: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    containers, _ = h100
    profile = load_profile("h100")
    for name, container in containers.items():
        environment = {item["name"]: item["value"] for item in container["env"]}
        wanted = profile.steps.get(name[5:].replace("-", "_"), profile.every_step).cpu
        assert {environment[variable] for variable in THREAD_VARIABLES} == {wanted}
    text = "environment: {MKL_NUM_THREADS: '3'}\nevery_step: {cpu: 500m}\nsteps: {pack: {cpu: 2.5}, promote: {cpu: ''}}"
    path = tmp_path / "mine.yaml"
    for given, pack in ((CLUSTER + text, "2"), (CLUSTER + text + "\nthreads: 7", "7")):
        path.write_text(given)
        pipeline, _ = ir.load(compile_pipeline(load_parameters(), load_profile(str(path)), tmp_path))
        found = {
            name: {item["name"]: item["value"] for item in executor["container"]["env"]}
            for name, executor in pipeline["deploymentSpec"]["executors"].items()
        }
        assert found["exec-pack"]["OMP_NUM_THREADS"] == pack
        assert found["exec-pack"]["MKL_NUM_THREADS"] == "3", "the profile's own word"
        assert found["exec-collect"]["OMP_NUM_THREADS"] == ("7" if pack == "7" else "1")
        assert found["exec-promote"].get("OMP_NUM_THREADS") == ("7" if pack == "7" else None), "it reserves nothing"


def test_secrets_come_by_reference_and_never_by_value(h100: tuple[dict[str, Any], dict[str, Any]]) -> None:
    containers, pods = h100
    secrets = load_profile("h100").secrets
    for name, pod in pods.items():
        found = {
            item["envVar"]: f"{entry['secretName']}/{item['secretKey']}"
            for entry in pod["secretAsEnv"]
            for item in entry["keyToEnv"]
        }
        assert found == dict(secrets)
        assert not {item["name"] for item in containers[name]["env"]} & secrets.keys()


def test_retries_and_time_limits_are_those_of_the_profile(on_cluster: tuple[dict[str, Any], dict[str, Any]]) -> None:
    profile = load_profile("cluster")
    pipeline, platform = on_cluster
    for name, task in pipeline["root"]["dag"]["tasks"].items():
        settings = profile.steps.get(name.replace("-", "_"), profile.every_step)
        assert int(task["retryPolicy"]["maxRetryCount"]) == settings.retries
        assert task["retryPolicy"]["backoffDuration"] == f"{settings.backoff}s"
        assert ir.pods(platform)[f"exec-{name}"]["activeDeadlineSeconds"] == str(settings.timeout)


def test_a_laptop_s_steps_are_no_pods(tmp_path: Path) -> None:
    _, platform = ir.load(compile_pipeline(load_parameters(), load_profile("laptop"), tmp_path))
    assert platform == {}


def test_a_claim_needs_no_store() -> None:
    shared = Storage(mode="claim", claim="shared")
    assert Profile(name="x", runner="cluster", storage=shared).storage.url == ""
