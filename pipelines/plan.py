"""What a run has to do: which steps are finished, whether their bytes are still right, and why the others run.

Every stored artefact of the planned DAG is read whole before the run starts. A byte that was changed, is missing or is
extra takes back that step and, through the inputs that the records name, whatever was made from it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components import records
from components.artifacts import Artifact
from components.execution import faults_of, plan_fingerprint, verified_path
from components.steps import Step, maker
from model.errors import UserError

Version = Callable[[str], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        step: which.
        fingerprint: None while an input is not made yet.
        artifact: what it made; None: it has to run.
        why: why it has to run; empty when it is finished.
        faults: what was wrong with its bytes.
        broken: the manifest of the step with wrong bytes, where that could be read.
    """

    step: Step
    fingerprint: str | None = None
    artifact: Artifact | None = None
    why: str = ""
    faults: tuple[str, ...] = ()
    broken: Artifact | None = None


def make_plan(
    steps: Sequence[Step], parameters: Mapping[str, Mapping[str, Any]], version: Version
) -> list[PlannedStep]:
    """Reads the records and the bytes of a DAG's finished steps; changes nothing.

    Args:
        steps: of `choose`: in order, each input with one maker.
        parameters: task -> complete parameters.
        version: module -> version of its code, kept by whoever gives it: a study has each step many times.

    Raises:
        UserError: a parameter names a file that does not exist.
    """
    planned: dict[str, PlannedStep] = {}
    for step in steps:
        inputs = {name: planned[maker(step, name)].artifact for name in step.inputs}
        waiting = sorted({maker(step, name) for name, artifact in inputs.items() if artifact is None})
        if waiting:
            planned[step.task] = PlannedStep(
                step=step, why=f"{' and '.join(waiting)} run{'s' * (len(waiting) == 1)} first"
            )
        else:
            made = {name: artifact for name, artifact in inputs.items() if artifact is not None}
            planned[step.task] = _plan_step(step, made, parameters[step.task], version(step.module))
    return list(planned.values())


def _plan_step(step: Step, inputs: Mapping[str, Artifact], values: Mapping[str, Any], version: str) -> PlannedStep:
    identity = plan_fingerprint(step, {name: artifact.digest for name, artifact in inputs.items()}, values, version)
    try:
        found = records.load_artifact(step.name, identity)
        faults = faults_of(step, found) if found is not None else []
    except UserError as error:
        found, faults = None, [str(error)]
    if faults:
        return PlannedStep(
            step=step, fingerprint=identity, why="its files were changed", faults=tuple(faults), broken=found
        )
    why = "" if found is not None else _why(step, identity, inputs, values, version)
    return PlannedStep(step=step, fingerprint=identity, artifact=found, why=why)


def _why(step: Step, identity: str, inputs: Mapping[str, Artifact], values: Mapping[str, Any], version: str) -> str:
    """How this execution differs from the last finished one."""
    if records.work_folder(step.name, identity).exists():
        return "it was interrupted and goes on"
    *_, last = [None, *records.records(step.name)]
    if last is None:
        return "it has not run yet"
    reasons = [
        f"{name} {last.parameters[name]} -> {value}" if name in last.parameters else f"{name} is new"
        for name, value in values.items()
        if last.parameters.get(name) != value
    ]
    reasons += [
        f"other {name}" for name in inputs if name in last.inputs and last.inputs[name].digest != inputs[name].digest
    ]
    if last.code_version != version:
        reasons.append("other code")
    return ", ".join(reasons) or "its files outside of the project changed"


def take_back(
    plan: Sequence[PlannedStep], parameters: Mapping[str, Mapping[str, Any]], version: Version
) -> dict[str, list[str]]:
    """Removes the records whose bytes are wrong and, of this plan, those made from them.

    Records of other parameters or other code stay: they were made from bytes that were right then.

    Returns:
        Task with wrong bytes -> the tasks that run again because of it.
    """
    taken: dict[str, list[str]] = {}
    for broken in plan:
        if not broken.faults or broken.fingerprint is None:
            continue
        # By digest as well: the same bytes may have been made by other code, under another fingerprint.
        stale = {(broken.step.name, broken.fingerprint)}
        stale_digests = {(broken.step.name, broken.broken.digest)} if broken.broken is not None else set()
        dependents: list[str] = []
        for later in plan[plan.index(broken) + 1 :]:
            for record in list(records.records(later.step.name)):
                from_stale = any(
                    (source.step, source.fingerprint) in stale or (source.step, source.digest) in stale_digests
                    for source in record.inputs.values()
                )
                if from_stale and _is_planned(record, parameters[later.step.task], version(later.step.module)):
                    stale.add((record.step, record.fingerprint))
                    stale_digests.add((record.step, record.digest))
                    dependents.append(later.step.task)
        for step, fingerprint in stale:
            records.invalidate(step, fingerprint)
        taken[broken.step.task] = dependents
    return taken


def _is_planned(record: Artifact, values: Mapping[str, Any], version: str) -> bool:
    return record.parameters == values and record.code_version == version


def mark_verified(plan: Sequence[PlannedStep], run_id: str) -> None:
    """Tells the steps of the run which artefacts need not be read again before they are used."""
    names = [f"{planned.step.name}/{planned.fingerprint}" for planned in plan if planned.artifact is not None]
    verified_path(run_id).write_text("".join(f"{name}\n" for name in names))
