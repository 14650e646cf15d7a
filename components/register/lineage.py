"""Where a policy comes from: the chain of finished steps behind it, as tags of its version."""

from collections.abc import Mapping
from pathlib import Path

from components.artifacts import Artifact
from components.provenance import code_state
from components.records import load_artifact

_DATASET_STEPS = ("collect", "ingest")


def lineage_tags(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Tags from the records of the steps that made the inputs, back to the dataset.

    `step.<name>` is the fingerprint of that step, `dataset_digest` and `dataset_uri` are of the dataset. An input that
    no step of the state folder made (a folder given by hand) has no record, and adds nothing.
    """
    tags: dict[str, str] = {}
    for artifact in chain(inputs).values():
        tags[f"step.{artifact.step}"] = artifact.fingerprint
        if artifact.step in _DATASET_STEPS:
            tags["dataset_digest"] = artifact.digest
            tags["dataset_uri"] = artifact.uri
    return dict(sorted(tags.items()))


def chain(inputs: Mapping[str, Path]) -> dict[str, Artifact]:
    """Step -> its artefact, of every step behind some inputs, as far as their records are known."""
    found: dict[str, Artifact] = {}
    waiting = [artifact for folder in inputs.values() if (artifact := _record_of(folder)) is not None]
    while waiting:
        artifact = waiting.pop()
        if artifact.step in found:
            continue
        found[artifact.step] = artifact
        sources = (load_artifact(source.step, source.fingerprint) for source in artifact.inputs.values())
        waiting += [source for source in sources if source is not None]
    return found


def git_commit() -> str | None:
    """The commit of the running code, with `-dirty` when files differ from it; None where it is not known."""
    code = code_state()
    return f"{code.commit}-dirty" if code.commit and code.dirty else code.commit


def _record_of(folder: Path) -> Artifact | None:
    """The manifest beside the `data` folder of a finished step."""
    manifest = folder.parent / "manifest.json"
    return Artifact.from_bytes(manifest.read_bytes(), str(manifest)) if manifest.is_file() else None
