"""What a profile says of a step's pod, as kfp and kfp-kubernetes take it."""

from typing import Any

from kfp import kubernetes

from components.steps import Step
from model.hardware import THREAD_VARIABLES
from pipelines.profile import Profile, StepSettings
from pipelines.quantities import number

HOME = "/var/lib/lingbot"  # of the images, for their user
_BACKOFF_FACTOR, _BACKOFF_MOST = 2.0, "3600s"


def configure_pod(task: Any, step: Step, profile: Profile) -> None:
    """Applies a profile of a cluster to a KFP task."""
    settings = profile.steps.get(step.name, profile.every_step)
    _resources(task, settings)
    _placement(task, settings)
    _storage(task, settings, profile)
    if settings.retries:
        task.set_retry(settings.retries, f"{settings.backoff}s", _BACKOFF_FACTOR, _BACKOFF_MOST)
    if settings.timeout:
        kubernetes.set_timeout(task, settings.timeout)
    _threads(task, settings, profile)
    # For the provenance: the same reference that the pod's image is pulled by.
    task.set_env_variable("LINGBOT_IMAGE", profile.image_of(step))
    kubernetes.use_field_path_as_env(task, "LINGBOT_RUN_ID", "metadata.labels['pipeline/runid']")
    for variable, secret in profile.secrets.items():
        name, key = secret.split("/", 1)
        kubernetes.use_secret_as_env(task, name, {key: variable})
    if profile.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(profile.image_pull_secrets))
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.set_security_context(task, run_as_user=profile.user, run_as_group=profile.user, run_as_non_root=True)
    # Istio's sidecar outlives the step, and then the pod never ends.
    labels = {**profile.labels, "lingbot/step": step.name, "sidecar.istio.io/inject": "false"}
    for key, value in labels.items():
        kubernetes.add_pod_label(task, key, value)


def _resources(task: Any, settings: StepSettings) -> None:
    """Requests equal to limits: the pods are the last that a full node evicts."""
    if settings.cpu:
        task.set_cpu_request(settings.cpu).set_cpu_limit(settings.cpu)
    if settings.memory:
        task.set_memory_request(settings.memory).set_memory_limit(settings.memory)
    if settings.gpus:
        task.set_accelerator_type(settings.gpu).set_accelerator_limit(settings.gpus)
    if settings.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=settings.shm)


def _threads(task: Any, settings: StepSettings, profile: Profile) -> None:
    """As many as the pod reserves: a library would take one for each core of the node, of which the pod gets a share,
    and the step's own look at what is idle sees the neighbours too."""
    if not profile.threads and not settings.cpu:
        return
    threads = profile.threads or max(1, int(number(settings.cpu)))
    for name in THREAD_VARIABLES:
        if name not in profile.environment:
            task.set_env_variable(name, str(threads))


def _placement(task: Any, settings: StepSettings) -> None:
    for key, value in settings.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in settings.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key or None,
            operator=toleration.operator,
            value=toleration.value or None,
            effect=toleration.effect or None,
        )


def _storage(task: Any, settings: StepSettings, profile: Profile) -> None:
    storage = profile.storage
    home = HOME
    if storage.mode == "claim":
        kubernetes.mount_pvc(task, storage.claim, storage.mount)
        home = storage.mount
    if settings.scratch:
        kubernetes.empty_dir_mount(task, "scratch", HOME, size_limit=settings.scratch)
    task.set_env_variable("LINGBOT_HOME", home)
    if storage.url:
        task.set_env_variable("LINGBOT_STORAGE", storage.url)
