"""What every KFP shell (`components/<step>/component.py`) does: references in, the step, a reference out.

KFP passes a few KB from step to step: a manifest without its list of files. The digest of each input and the code
version come as parameters as well, so that KFP's own cache keys are right.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.artifacts import Artifact
from components.code_version import code_version as current_code_version
from components.execution import execute, load_artifact, report
from components.liveness import current_run, end_with_run
from components.steps import get_step, spread
from model.errors import UserError

# Beside a step's parameters: what the run calls this execution, where it has the step several times.
TASK = "@task"
Reference = tuple[str, str] | tuple[Sequence[str], Sequence[str]]


def run_component(
    name: str,
    inputs: Mapping[str, Reference],
    parameters: Mapping[str, Any],
    code_version: str,
    output: Any,
    digest_path: str,
) -> None:
    """Executes the step `name` as a KFP task.

    Args:
        name: of the step.
        inputs: input name -> (path of its reference, its digest); of a list, (paths, digests).
        parameters: of the step, and `TASK`.
        code_version: what the pipeline was compiled from.
        output: KFP's output artefact; its file gets the reference, its metadata the digest and the summary.
        digest_path: KFP's file for the output parameter `digest`.

    An error is reported to the run and ends the process: with code 2 when the user can put it right, 1 otherwise.
    """
    run_id = current_run()
    end_with_run()
    values = {key: value for key, value in parameters.items() if key != TASK}
    task = str(parameters.get(TASK, name))
    try:
        step = get_step(name)
        running = current_code_version(step.module)
        if running != code_version:
            raise UserError(
                f"the code of step '{name}' has version {running[:12]}, and the pipeline was built from "
                f"{code_version[:12]}: it was edited while the run went on (run again), or its image holds other code "
                "(compile again from that commit, or rebuild the image)"
            )
        read = {key: read_reference(Path(path), digest) for key, (path, digest) in _elements(inputs)}
        if step.many:
            step = spread(
                step, {key: [element for element in read if element.startswith(f"{key}[")] for key in step.many}
            )
        artifact = execute(step, read, values, run_id, version=running, task=task)
        reference = artifact.reference()
        Path(output.path).write_text(json.dumps(reference, indent=1) + "\n")
        metadata = ("schema_version", "step", "fingerprint", "digest", "uri", "file_count", "bytes", "summary")
        output.metadata.update({key: reference[key] for key in metadata})
        Path(digest_path).parent.mkdir(parents=True, exist_ok=True)
        Path(digest_path).write_text(artifact.digest)
    except Exception as error:  # noqa: BLE001 - reported whole, then the process ends
        told = report(task, error, run_id)
        print(told["traceback"], flush=True)
        # Not SystemExit: KFP's executor must not write outputs, and non-daemon threads of a step must not hold us.
        os._exit(2 if told["user"] else 1)


def _elements(inputs: Mapping[str, Reference]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each input with the path of its reference and its digest; the elements of a list as name[0], name[1], ..."""
    for key, (path, digest) in inputs.items():
        if isinstance(path, str):
            yield key, (path, str(digest))
        else:
            for number, pair in enumerate(zip(path, digest, strict=True)):
                yield f"{key}[{number}]", pair


def read_reference(path: Path, digest: str | None = None) -> Artifact:
    """The artefact that a reference (or a whole manifest) names; checked against the digest when one is given.

    Raises:
        UserError: the step's record is gone, or is not what the reference says.
    """
    try:
        reference = json.loads(path.read_text())
        step, fingerprint, expected = reference["step"], reference["fingerprint"], digest or reference["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest of a step: give the manifest.json of a finished step") from error
    artifact = load_artifact(step, fingerprint)
    if artifact is None:
        raise UserError(
            f"the finished step '{step}' {fingerprint[:12]} that {path} names is neither in LINGBOT_HOME nor in "
            "LINGBOT_STORAGE: run it again"
        )
    if artifact.digest != expected:
        raise UserError(
            f"{path} names '{step}' with digest {expected[:12]}, its record has {artifact.digest[:12]}: run again"
        )
    return artifact
