"""The inputs of one step that runs outside of a run."""

from collections.abc import Sequence
from pathlib import Path

from components.artifacts import Artifact
from components.code_version import Sources
from components.exchange import MANIFEST, import_artifact
from components.shell import read_reference
from components.steps import Step, get_step, maker
from model.errors import UserError, unknown_name
from pipelines.parameters import RunParameters
from pipelines.plan import make_plan
from pipelines.shape import SOURCES, source_of, steps_with


def resolve_inputs(name: str, parameters: RunParameters, given: Sequence[str]) -> tuple[Step, dict[str, Artifact]]:
    """The step and its inputs: those given as NAME=MANIFEST, the others as the steps before it made them.

    Args:
        name: of the step.
        parameters: of all steps; they say which finished execution of an earlier step is meant.
        given: `NAME=MANIFEST`.

    Raises:
        UserError: an unknown input, no manifest, or an earlier step that is not finished (with what to run).
    """
    source = name if name in SOURCES else source_of(parameters)
    steps = {step.name: step for step in steps_with(name, source)}
    step = steps[name]
    inputs: dict[str, Artifact] = {}
    for text in given:
        key, found, path = text.partition("=")
        if not found:
            raise UserError(f"--input {text} names no manifest: write NAME=MANIFEST")
        if key not in step.inputs:
            raise unknown_name(f"input of '{name}'", key, step.inputs)
        inputs[key] = read_reference(Path(path))
        made_by = inputs[key].step
        if made_by not in get_step(name).inputs[key]:
            raise UserError(f"--input {text} was made by '{made_by}': '{key}' comes from {maker(step, key)}")
    missing = [key for key in step.inputs if key not in inputs]
    if missing:
        plan = make_plan(_before(steps, name), parameters.steps, Sources().version)
        planned = {item.step.name: item for item in plan}
        for key in missing:
            item = planned[maker(step, key)]
            if item.artifact is None:
                raise UserError(
                    f"step '{name}' reads what '{item.step.name}' makes with these parameters, which is not finished "
                    f"({item.why}): run `lingbot step {item.step.name}` first, or give it with --input {key}=MANIFEST"
                )
            inputs[key] = item.artifact
    return step, {key: inputs[key] for key in step.inputs}


def exported_inputs(name: str, parameters: RunParameters, folder: Path) -> list[str]:
    """Takes the inputs of a step that lie in `folder/<step>` into the state folder; returns them as NAME=MANIFEST."""
    steps = {step.name: step for step in steps_with(name, name if name in SOURCES else source_of(parameters))}
    given = []
    for key in steps[name].inputs:
        manifest = folder / maker(steps[name], key) / MANIFEST
        if manifest.is_file():
            import_artifact(manifest.parent)
            given.append(f"{key}={manifest}")
    return given


def _before(steps: dict[str, Step], name: str) -> list[Step]:
    names = list(steps)
    return [steps[earlier] for earlier in names[: names.index(name)]]
