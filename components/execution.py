"""Executes one step: reuses what is finished, resumes what was killed, records what comes out.

The step itself is `components/<step>/step.py`: a function from folders to a folder. Everything around it is here, the
same for KFP on a laptop, a pod on a cluster, a stage of DVC, and a test.
"""

import errno
import json
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components import records, state
from components.artifacts import SCRATCH, Artifact, digest_of, fingerprint, hash_folder
from components.code_version import code_version
from components.progress import StepProgress, open_progress
from components.records import load_artifact
from components.secrets import redacted
from components.sources import source_digests
from components.steps import Step, make_parameters, parameter_values
from components.usage import Meter
from model.errors import UserError

__all__ = ["Artifact", "execute", "load_artifact", "plan_fingerprint", "report", "verified_path"]

# A line of the log that begins so carries an error report; it gets through when the disk is full.
ERROR_MARK = "lingbot-error: "
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_FULL_DISK_WORDS = ("no space left on device", "disk is full", "disk quota exceeded")


def plan_fingerprint(step: Step, inputs: Mapping[str, str], parameters: Mapping[str, Any], version: str) -> str:
    """The fingerprint of an execution from the digests of its inputs and its parameters (checked, complete).

    Raises:
        UserError: a parameter names a file that does not exist.
    """
    return fingerprint(step.name, inputs, parameters, source_digests(step, parameters), version)


def execute(
    step: Step,
    inputs: Mapping[str, Artifact],
    parameters: Mapping[str, Any],
    run_id: str | None = None,
    *,
    version: str | None = None,
    task: str | None = None,
) -> Artifact:
    """Executes a step, unless that very execution is finished already.

    Args:
        step: of the table, or a test's own.
        inputs: input name -> artefact, exactly those of the step.
        parameters: any of the step's; the others have their defaults.
        run_id: where progress is written; None: to the log.
        version: the code version to record; None: computed from the step's module.
        task: what the run calls this execution; None: as the step.

    Returns:
        The manifest. The files are in `records.data_folder(step, fingerprint)`.

    Raises:
        UserError: a parameter, an input or the disk is at fault, and the message says how to go on.
    """
    assert inputs.keys() == step.inputs.keys(), f"{step.name} reads {set(step.inputs)}, was given {set(inputs)}"
    meter = Meter()
    checked = make_parameters(step, parameters)
    values = parameter_values(checked)
    version = version or code_version(step.module)
    digests = {name: artifact.digest for name, artifact in inputs.items()}
    sources = source_digests(step, values)
    identity = fingerprint(step.name, digests, values, sources, version)
    progress = open_progress(task or step.task, run_id)
    try:
        progress.event("start", fingerprint=identity)
        with records.lock(step.name, identity, lambda holder: progress.message(f"waiting for process {holder}")):
            found = _finished(step, identity, run_id, progress)
            if found is not None:
                records.publish(found)  # an attempt may have failed at that, or have known of no storage
                progress.event("end", status="cached", **meter.read())
                return found
            folders = {name: _trusted(artifact, run_id) for name, artifact in inputs.items()}
            work = records.work_folder(step.name, identity)
            work.mkdir(parents=True, exist_ok=True)
            summary = step.load().run(folders, work, checked, progress)
            artifact = _finish(step, identity, inputs, values, sources, version, summary)
        used = meter.read()
        records.write_timing(artifact, used, run_id)
        records.publish(artifact)
        _mark_verified(artifact, run_id)
        progress.event("end", status="done", **used)
        return artifact
    except BaseException as error:
        if not is_full_disk(error):  # a full disk cannot take this line either
            progress.event("end", status="failed", **meter.read())
            raise
        raise _full_disk_error(step.name, error) from error


def faults_of(step: Step, artifact: Artifact) -> list[str]:
    """Why a finished execution does not count any more; empty when every byte is right.

    A step that wrote elsewhere (to the registry) also says whether that is still there.
    """
    faults = records.verify(artifact)
    if not faults and step.effects and not step.load().verify(records.fetch(artifact)):
        faults.append(f"what '{step.name}' wrote elsewhere is not there any more")
    return faults


def _finished(step: Step, identity: str, run_id: str | None, progress: StepProgress) -> Artifact | None:
    """The finished execution, its bytes checked. One whose bytes changed is removed, so that it is made again."""
    _recover(step.name, identity)
    try:
        found = load_artifact(step.name, identity)
        faults = [] if found is None or _is_verified(found, run_id) else faults_of(step, found)
    except UserError as error:
        found, faults = None, [str(error)]
    if faults:
        progress.message(f"made again, because {faults[0]}")
        records.remove(step.name, identity)
        return None
    return found


def _recover(step: str, identity: str) -> None:
    """Ends what a kill interrupted between the manifest and the renaming of `work`, if the bytes are all there."""
    manifest, work = records.manifest_path(step, identity), records.work_folder(step, identity)
    data = records.data_folder(step, identity)
    if data.exists() and not manifest.exists():
        data.rename(work)
    elif manifest.exists() and work.exists() and not data.exists():
        artifact = Artifact.from_bytes(manifest.read_bytes(), str(manifest))
        if records.compare(artifact, work):
            manifest.unlink()
        else:
            work.rename(data)


def _trusted(artifact: Artifact, run_id: str | None) -> Path:
    """The folder of an input, after its bytes were checked in this run.

    Raises:
        UserError: they are not what its manifest says.
    """
    folder = records.fetch(artifact)
    if not _is_verified(artifact, run_id):
        faults = records.compare(artifact, folder)
        if faults:
            raise UserError(
                f"the artefact of '{artifact.step}' is not what was recorded: {faults[0]}; run again to remake it"
            )
        _mark_verified(artifact, run_id)
    return folder


def _finish(
    step: Step,
    identity: str,
    inputs: Mapping[str, Artifact],
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    version: str,
    summary: Mapping[str, Any],
) -> Artifact:
    work = records.work_folder(step.name, identity)
    if (work / SCRATCH).exists():
        records.keep_speed(step.name, identity, work / SCRATCH)
        shutil.rmtree(work / SCRATCH)
    files = hash_folder(work)
    assert files, f"step {step.name} wrote no file"
    artifact = Artifact(
        step=step.name,
        kind=step.artifact,
        uri=records.uri_of(step.name, identity),
        digest=digest_of(files),
        fingerprint=identity,
        files=files,
        summary=json.loads(state.canonical_json(summary)),
        inputs={name: artifact.source for name, artifact in sorted(inputs.items())},
        parameters=dict(values),
        sources=dict(sources),
        code_version=version,
    )
    state.write_atomically(records.manifest_path(step.name, identity), artifact.to_bytes())
    work.rename(records.data_folder(step.name, identity))
    return artifact


def verified_path(run_id: str) -> Path:
    """Names of the artefacts whose bytes this run has read and found right, a line each."""
    return state.run_folder(run_id) / "verified"


def _is_verified(artifact: Artifact, run_id: str | None) -> bool:
    if run_id is None or not verified_path(run_id).exists():
        return False
    return f"{artifact.step}/{artifact.fingerprint}" in verified_path(run_id).read_text().splitlines()


def _mark_verified(artifact: Artifact, run_id: str | None) -> None:
    if run_id is not None:
        with verified_path(run_id).open("a") as file:
            file.write(f"{artifact.step}/{artifact.fingerprint}\n")


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is a full disk. Libraries wrap it, some keep only the words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL_DISK:
            return True
        if any(words in str(error).lower() for words in _FULL_DISK_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _full_disk_error(step: str, error: BaseException) -> UserError:
    place = error.filename if isinstance(error, OSError) and error.filename else state.home()
    free = shutil.disk_usage(state.home()).free
    return UserError(
        f"the disk is full: step '{step}' could not write {place} ({free / 2**20:.0f} MiB are free below "
        f"{state.home()}): free some space there, or set LINGBOT_HOME to a folder on a larger disk, and run again; "
        "finished steps are kept"
    )


def report(step: str, error: BaseException, run_id: str | None) -> dict[str, Any]:
    """Tells the run what went wrong: on a marked line of the log, and in `runs/<id>/errors/<step>.json`.

    Returns:
        {step, type, message, user, traceback}: `user` says that the user can put it right.
    """
    values = {
        "step": step,
        "type": type(error).__name__,
        "message": redacted(str(error)) or type(error).__name__,
        "user": isinstance(error, UserError),
        "traceback": redacted("".join(traceback.format_exception(error))),
    }
    print(f"{ERROR_MARK}{json.dumps(values)}", flush=True)
    if run_id is not None and not is_full_disk(error):
        state.write_json(state.run_folder(run_id) / "errors" / f"{step}.json", values)
    return values
