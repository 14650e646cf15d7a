"""What a cluster is for training jobs: one typed YAML, which a platform team writes once (`settings.example.yaml`)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from components import typed
from components.images import IMAGES
from components.toleration import Toleration
from model.errors import UserError
from model.yaml_files import read_yaml


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of each node's pod, as requests and limits in Kubernetes' units. `gpus` 0: none, training on CPUs. `shm` is
    /dev/shm, kept in memory: NCCL and the loader's workers exchange tensors there, and it counts as memory."""

    gpu: str = "nvidia.com/gpu"
    gpus: int = 8
    cpu: str = "64"
    memory: str = "512Gi"
    ephemeral_storage: str = "200Gi"
    shm: str = "64Gi"

    def __post_init__(self) -> None:
        typed.at_least("resources.gpus", self.gpus, 0)
        for name in ("cpu", "memory", "ephemeral_storage", "shm"):
            typed.match(
                f"resources.{name}", getattr(self, name), typed.QUANTITY, "a quantity such as 64, 500m or 512Gi"
            )
        typed.match("resources.gpu", self.gpu, typed.LABEL_KEY, "a resource name such as nvidia.com/gpu")


@dataclass(frozen=True, kw_only=True)
class Scheduling:
    """Where pods go, and that all of a job's start together or none (`gang`): half a job holds GPUs and does nothing.

    Attributes:
        gang: whose: none, volcano, coscheduling (of scheduler-plugins) or kueue.
        queue: of volcano or kueue.
        priority_class: of the pods.
        timeout_seconds: coscheduling waits so long for all pods.
    """

    gang: Literal["none", "volcano", "coscheduling", "kueue"] = "none"
    queue: str = ""
    priority_class: str = ""
    timeout_seconds: int = 600
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    def __post_init__(self) -> None:
        typed.at_least("scheduling.timeout_seconds", self.timeout_seconds, 1)
        typed.labels("scheduling.node_selector", self.node_selector)
        if self.queue and self.gang not in ("volcano", "kueue"):
            raise UserError(
                f"scheduling.queue is '{self.queue}' with gang '{self.gang}': queues are those of volcano or kueue."
            )
        if self.gang == "kueue" and not self.queue:
            raise UserError("scheduling.gang is kueue without scheduling.queue: name the LocalQueue of the namespace.")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Storage that every rank reads and writes: a claim (ReadWriteMany) mounted at `mount`, an object store
    (`LINGBOT_STORAGE`), or both."""

    claim: str = ""
    mount: str = "/mnt/lingbot"
    url: str = ""

    def __post_init__(self) -> None:
        if not self.claim and not self.url:
            raise UserError(
                "storage names neither a claim nor a url: ranks on several nodes share their checkpoints through one."
            )
        if not self.mount.startswith("/"):
            raise UserError(f"storage.mount is '{self.mount}': it must be an absolute path.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds. No job stays for ever: each has a deadline and is removed after its end, also when nobody is left to.

    Attributes:
        deadline: the longest that an attempt may take, whatever its spec says.
        ttl: an ended job is kept so long.
        no_pod: a job of which no pod runs after so long has failed.
        grace: between the signal to stop and the kill; a checkpoint must be written within.
    """

    deadline: int = 7 * 24 * 3600
    ttl: int = 3600
    no_pod: int = 1800
    grace: int = 120

    def __post_init__(self) -> None:
        for name in ("deadline", "ttl", "no_pod", "grace"):
            typed.at_least(f"limits.{name}", getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """One cluster.

    Attributes:
        job: the custom resource that is submitted.
        namespace: of the jobs.
        image: of the ranks: this project with torch; left out, the image of the step that launches them
            (LINGBOT_IMAGE, which compiled pipelines set).
        service_account: of the pods.
        runtime: a TrainJob's TrainingRuntime, in the namespace (`trainjob.runtime` makes it).
        environment: of every rank.
        secrets: environment variable -> "secret/key".
        image_pull_secrets: names.
        user: id that the ranks run as; the claim's files belong to its group.
        istio_sidecar: injected sidecars do not end with the ranks, so that the job never would.
        labels: of every job and pod, for whoever pays.
    """

    job: Literal["pytorchjob", "trainjob"] = "pytorchjob"
    namespace: str = "lingbot"
    image: str = field(default_factory=lambda: os.environ.get("LINGBOT_IMAGE") or IMAGES["train"])
    service_account: str = "default"
    runtime: str = "lingbot-torch"
    resources: Resources = field(default_factory=Resources)
    scheduling: Scheduling = field(default_factory=Scheduling)
    storage: Shared
    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()
    user: int = 1000
    istio_sidecar: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("namespace", "service_account", "runtime"):
            typed.match(name, getattr(self, name), typed.DNS, "lower-case letters, digits and dashes")
        typed.environment(self.environment, self.secrets)
        typed.labels("labels", self.labels)
        typed.at_least("user", self.user, 1)


def load_settings(path: Path) -> ClusterSettings:
    """Reads and checks the YAML of a cluster.

    Raises:
        UserError: it is missing, no YAML, or holds an unknown key or a wrong value.
    """
    return typed.read(ClusterSettings, read_yaml(path, f"the cluster's settings {path}"), "the cluster's settings")
