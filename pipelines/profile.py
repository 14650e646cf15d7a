"""Where a DAG runs: a laptop or a cluster, with which images, environment and resources (`profiles/*.yaml`)."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from components.images import IMAGES
from components.steps import STEPS, Step, check_value
from model.errors import UserError, unknown_name
from pipelines.parameters import read_yaml

PROFILES = Path(__file__).parent / "profiles"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """What a step asks for, in Kubernetes' units; empty: the cluster's default."""

    cpu: str = ""
    memory: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """One place to run.

    Attributes:
        name: for messages.
        runner: "local" (kfp.local, a process a step) or "cluster" (compiled, run by Kubeflow).
        threads: of arithmetic in a step; 0: as many as there are idle cores when the run starts.
        images: role (data, train, simulation) -> image; the others are those of components/images.py.
        environment: of every step.
        resources: step -> Resources.
    """

    name: str
    runner: Literal["local", "cluster"]
    threads: int = 0
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resources: Mapping[str, Resources] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in self.images:
            if role not in IMAGES:
                raise unknown_name("image role in the profile", role, IMAGES)
        for step in self.resources:
            if step not in STEPS:
                raise unknown_name("step in the profile", step, STEPS)
        if self.threads < 0:
            raise UserError(
                f"threads of profile '{self.name}' is {self.threads}: it must be 0 (chosen at the start) or more"
            )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Profile":
        resources = {step: Resources(**given) for step, given in values["resources"].items()}
        return cls(**{**values, "resources": resources})

    def configure(self, task: Any, step: Step) -> Any:
        """Applies the profile to a KFP task; returns it."""
        # A record in the registry is no function of the inputs alone: KFP must ask the step, which asks the registry.
        task.set_caching_options(not step.effects)
        if step.image in self.images:
            task.set_container_image(self.images[step.image])
        for name, value in self.environment.items():
            task.set_env_variable(name, value)
        resources = self.resources.get(step.name, Resources())
        if resources.cpu:
            task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
        if resources.memory:
            task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
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
    values = read_yaml(path)
    fields = {field.name for field in dataclasses.fields(Profile)} - {"name"}
    for key in values:
        if key not in fields:
            raise unknown_name(f"key of profile {path}", key, fields)
    if "runner" not in values:
        raise UserError(f"profile {path} has no 'runner': it must be local or cluster")
    resources = {step: _read_resources(step, given) for step, given in values.pop("resources", {}).items()}
    runner = check_value(f"runner of {path}", values.pop("runner"), Literal["local", "cluster"])
    return Profile(name=path.stem, runner=runner, resources=resources, **values)


def _read_resources(step: str, given: Mapping[str, Any]) -> Resources:
    known = {field.name for field in dataclasses.fields(Resources)}
    for name in given:
        if name not in known:
            raise unknown_name(f"resource of '{step}' in the profile", name, known)
    return Resources(**{name: str(value) for name, value in given.items()})
