"""Where a DAG runs: a laptop or a cluster, with which images, storage, resources and limits (`profiles/*.yaml`)."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from components import typed
from components.images import IMAGES
from components.steps import STEPS, Step
from components.toleration import Toleration
from model.errors import UserError, unknown_name
from pipelines.parameters import read_mapping
from pipelines.quantities import number

PROFILES = Path(__file__).parent / "profiles"
# kfp takes fewer quantities for resources than Kubernetes does.
_QUANTITIES = {
    "cpu": (re.compile(r"(\d*\.)?\d+m?"), "cores such as 4, 0.5 or 500m"),
    "memory": (re.compile(r"\d+([KMGTPE]i|[MGTPE])?"), "a whole number of bytes such as 16Gi or 1536Mi"),
    "scratch": (typed.QUANTITY, "a quantity such as 16Gi"),
    "shm": (typed.QUANTITY, "a quantity such as 16Gi"),
}
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")
# What each run sets by itself, and what it follows from.
_OURS = {
    "LINGBOT_STORAGE": "storage",
    "LINGBOT_HOME": "storage",
    "LINGBOT_IMAGE": "images",
    "LINGBOT_RUN_ID": "the run",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSettings:
    """One step's pod. What is left out is that of `every_step`, and there the cluster's default.

    Attributes:
        cpu, memory: requests and limits at once, in Kubernetes' units.
        scratch: the most that it may keep on its node's disk, where the state folder lies. KFP can request no
            ephemeral storage; the limit evicts the step that fills a disk, and not its neighbours.
        shm: /dev/shm, kept in memory; it counts as memory.
        gpu: type of the accelerator, as a resource name. gpus: how many; 0: none.
        retries: after a failure; a step resumes from what its last attempt wrote.
        backoff: seconds before the first retry, twice as many before each next.
        timeout: seconds after which an attempt is ended; 0: never.
        node_selector: labels of the nodes that may run it.
        tolerations: of the nodes' taints.
    """

    cpu: str = ""
    memory: str = ""
    scratch: str = ""
    shm: str = ""
    gpu: str = "nvidia.com/gpu"
    gpus: int = 0
    retries: int = 0
    backoff: int = 60
    timeout: int = 0
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    def check(self, place: str) -> None:
        """UserError for a value that no pod can have; `place` is where the profile has these."""
        for name, (pattern, rule) in _QUANTITIES.items():
            value = getattr(self, name)
            if value:
                typed.match(f"{place}.{name}", value, pattern, rule)
            if value and not number(value):
                raise UserError(f"{place}.{name} is {value}: it must be more than 0, or left out.")
        if self.shm and self.memory and number(self.shm) > number(self.memory):
            raise UserError(
                f"{place}.shm is {self.shm} and {place}.memory {self.memory}: what lies in /dev/shm counts as memory, "
                "so give at least as much of that."
            )
        typed.match(f"{place}.gpu", self.gpu, typed.LABEL_KEY, "a resource name such as nvidia.com/gpu")
        for name in ("gpus", "retries", "backoff", "timeout"):
            typed.at_least(f"{place}.{name}", getattr(self, name), 0)
        typed.labels(f"{place}.node_selector", self.node_selector)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storage:
    """How steps hand each other their bytes.

    Attributes:
        mode: "object": through `url` (LINGBOT_STORAGE), nothing is shared but the object store; "claim": through a
            persistent volume claim (ReadWriteMany), whose state folder all steps see.
        url: s3://bucket/prefix; in mode "claim" optional, and then results are published there too.
        claim: its name; `user` must be able to write there. mount: where steps see it.
    """

    mode: Literal["object", "claim"] = "object"
    url: str = ""
    claim: str = ""
    mount: str = "/mnt/lingbot"

    def __post_init__(self) -> None:
        if self.mode == "object" and self.claim:
            raise UserError(
                f"storage.claim is '{self.claim}' in mode object, which mounts none: set storage.mode to claim."
            )
        if self.mode == "claim" and not self.claim:
            raise UserError("storage.mode is claim without storage.claim: name a ReadWriteMany claim.")
        if self.url and "://" not in self.url:
            raise UserError(f"storage.url is '{self.url}': a pod sees no folder of yours, so give s3://bucket/prefix.")
        if not _is_storage(self.url):
            raise UserError(f"storage.url is '{self.url}': it must be s3://bucket/prefix.")
        if not self.mount.startswith("/"):
            raise UserError(f"storage.mount is '{self.mount}': it must be an absolute path.")


def _is_storage(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # of brackets that do not close
        return False
    return parts.scheme in ("", "file") or (parts.scheme == "s3" and bool(parts.netloc))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """One place to run.

    Attributes:
        name: for messages.
        runner: "local" (kfp.local, a process a step) or "cluster" (compiled, run by Kubeflow).
        threads: of arithmetic in a step; 0: here as many as there are idle cores when the run starts, in a pod as many
            as it reserves.
        images: role (data, train, simulation) -> image; the others are those of components/images.py.
        environment: of every step.
        secrets: environment variable -> "secret/key", of every step.
        storage: see `Storage`.
        every_step: what holds for steps that do not say otherwise.
        steps: step -> what it says otherwise.
        labels: of every pod, for whoever pays.
        image_pull_secrets: names.
        user: id that the steps run as.
        prices: a file that a run's hours and bytes are priced by (`pipelines/prices.yaml`, when left out).
        experiment: of Kubeflow, that the runs are in.
        service_account: that Kubeflow runs them as; empty: its default.
    """

    name: str
    runner: Literal["local", "cluster"]
    threads: int = 0
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    storage: Storage = dataclasses.field(default_factory=Storage)
    every_step: StepSettings = dataclasses.field(default_factory=StepSettings)
    steps: Mapping[str, StepSettings] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()
    user: int = 1000
    prices: str = ""
    experiment: str = "lingbot"
    service_account: str = ""

    def __post_init__(self) -> None:
        for role in self.images:
            if role not in IMAGES:
                raise unknown_name("image role in the profile", role, IMAGES)
        for step in self.steps:
            if step not in STEPS:
                raise unknown_name("step in the profile", step, STEPS)
        self.every_step.check("every_step")
        for step, settings in self.steps.items():
            settings.check(f"steps.{step}")
        if self.threads < 0:
            raise UserError(
                f"threads of profile '{self.name}' is {self.threads}: it must be 0 (chosen at the start) or more"
            )
        for role, image in self.images.items():
            typed.match(f"images.{role}", image, _IMAGE, "an image such as registry.example.com/lingbot@sha256:DIGEST")
        for index, secret in enumerate(self.image_pull_secrets):
            typed.match(f"image_pull_secrets[{index}]", secret, typed.DNS, "lower-case letters, digits and dashes")
        typed.environment(self.environment, self.secrets)
        typed.labels("labels", self.labels)
        typed.at_least("user", self.user, 1)
        if self.runner == "cluster" and self.storage.mode == "object" and not self.storage.url:
            raise UserError(
                f"profile '{self.name}' has no storage.url: steps on a cluster hand each other their bytes through "
                "s3://bucket/prefix, or through a claim (storage.mode: claim)"
            )
        for variable in (*self.environment, *self.secrets):
            if self.runner == "cluster" and variable in _OURS:
                raise UserError(
                    f"profile '{self.name}' sets {variable}: it follows from {_OURS[variable]}, so leave it out"
                )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Profile":
        return typed.read(cls, values, f"profile '{values['name']}'")

    def image_of(self, step: Step) -> str:
        return self.images.get(step.image, IMAGES[step.image])

    def tagged(self) -> list[str]:
        """Roles whose image is named by a tag, which can be moved under a compiled pipeline."""
        return sorted({step.image for step in STEPS.values() if "@sha256:" not in self.image_of(step)})

    def with_images(self, images: Mapping[str, str]) -> "Profile":
        """The profile with these images (role -> image) before its own."""
        return dataclasses.replace(self, images={**self.images, **images})

    def configure(self, task: Any, step: Step) -> Any:
        """Applies the profile to a KFP task; returns it."""
        # KFP's cache key is what KFP sees. A record in the registry is no function of that, nor are the bytes behind
        # the name of a dataset or checkpoint: there KFP must ask the step, which knows by its fingerprint.
        task.set_caching_options(not (step.effects or step.sources or step.listings))
        if step.image in self.images:
            task.set_container_image(self.images[step.image])
        for name, value in self.environment.items():
            task.set_env_variable(name, value)
        if self.runner == "cluster":
            from pipelines.pod import configure_pod

            configure_pod(task, step, self)
        return task


def load_profile(name: str) -> Profile:
    """A profile by name (of pipelines/profiles) or by the path of a YAML file.

    Raises:
        UserError: there is none, or it holds an unknown key or a wrong value.
    """
    known = {path.stem: path for path in PROFILES.glob("*.yaml")}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise (
            unknown_name("profile", name, known)
            if os.sep not in name
            else UserError(f"there is no profile file {name}")
        )
    values = read_mapping(path)
    if "runner" not in values:
        raise UserError(f"profile {path} has no 'runner': it must be local or cluster")
    # A step says what differs: the rest is every_step's, mappings key by key.
    common = values.get("every_step", {})
    steps = values.get("steps", {})
    if isinstance(common, dict) and isinstance(steps, dict):
        values["steps"] = {
            step: {**common, **given} if isinstance(given, dict) else given for step, given in steps.items()
        }
    return typed.read(Profile, {**values, "name": path.stem}, f"profile {path}")


def load_images(path: Path) -> dict[str, str]:
    """Role -> image, as containers/build.py writes them.

    Raises:
        UserError: it cannot be read, or names an unknown role.
    """
    images = read_mapping(path)
    for role, image in images.items():
        if role not in IMAGES:
            raise unknown_name(f"image role in {path}", str(role), IMAGES)
        if not isinstance(image, str):
            raise UserError(f"{role} of {path} is {image!r}: it must be an image by digest")
    return images
