"""Which part of the data a policy was trained on: found in the records of the steps behind its evaluation."""

from pathlib import Path

from components import records
from components.artifacts import Artifact, Source
from components.subset.step import NAME as SUBSET
from model.errors import UserError


def subset_behind(evaluation: Path) -> Artifact:
    """The record of the subset that the evaluated policy was trained on.

    Args:
        evaluation: the `data` folder of a finished step `evaluate`.

    Raises:
        UserError: there is none, as the policy was not trained by a study, or its record is gone.
    """
    manifest = evaluation.parent / "manifest.json"
    waiting = [Artifact.from_bytes(manifest.read_bytes(), str(manifest))]
    seen: set[str] = set()
    while waiting:
        artifact = waiting.pop()
        if artifact.step == SUBSET:
            return artifact
        for source in artifact.inputs.values():
            if source.fingerprint not in seen:
                seen.add(source.fingerprint)
                found = _record(source)
                if found is not None:
                    waiting.append(found)
    raise UserError(
        f"the evaluation in {evaluation} leads to no subset of the data: run the whole study with `lingbot run study`"
    )


def _record(source: Source) -> Artifact | None:
    """By its fingerprint; else the same bytes made by other code, under another fingerprint."""
    found = records.load_artifact(source.step, source.fingerprint)
    if found is not None:
        return found
    same = (artifact for artifact in records.records(source.step) if artifact.digest == source.digest)
    return next(same, None)
