"""Finished steps outside of the state folder: as DVC, a worktree or a colleague sees them.

A folder holds one artefact as it lies in the state folder: `manifest.json` and the files below `data/`. Files are
copied, never linked: DVC makes what it caches read-only and shares it.

    python -m components.exchange FOLDER...    takes the artefacts of these folders into LINGBOT_HOME
"""

import shutil
import sys
from pathlib import Path

from components import records, state
from components.adapters.storage import Storage
from components.artifacts import Artifact, compare
from model.errors import UserError

MANIFEST = "manifest.json"
DATA = "data"


def export_artifact(artifact: Artifact, folder: Path) -> None:
    """Makes `folder` hold exactly this artefact, whole or not at all; nothing is done when it does already.

    Raises:
        UserError: the artefact's files are gone or changed.
    """
    manifest = folder / MANIFEST
    if manifest.is_file() and manifest.read_bytes() == artifact.to_bytes() and not compare(artifact, folder / DATA):
        return
    source = records.fetch(artifact)
    partial = folder.with_name(f".{folder.name}.exporting")
    _remove(partial)
    Storage.from_url(source).get_folder("", partial / DATA, sha256=_digests(artifact))
    state.write_atomically(partial / MANIFEST, artifact.to_bytes())
    _remove(folder)
    partial.rename(folder)


def import_artifact(folder: Path) -> Artifact:
    """Takes the artefact of a folder into the state folder, its bytes checked; returns its manifest.

    Raises:
        UserError: the folder holds no artefact, or its bytes are not those of its manifest.
    """
    artifact = read_export(folder)
    step, identity = artifact.step, artifact.fingerprint
    with records.lock(step, identity, lambda holder: None):
        known = records.load_artifact(step, identity)
        if known is None or compare(artifact, records.data_folder(step, identity)):
            records.remove(step, identity)
            state.write_atomically(records.manifest_path(step, identity), artifact.to_bytes())
            target = records.data_folder(step, identity)
            Storage.from_url(folder / DATA).get_folder("", target, sha256=_digests(artifact))
        elif known != artifact:
            raise UserError(
                f"{folder} and the finished step '{step}' {identity[:12]} here are not the same: remove one."
            )
    return artifact


def read_export(folder: Path) -> Artifact:
    """The manifest of an exported artefact; its files are not read.

    Raises:
        UserError: there is none, or it was changed.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UserError(f"{folder} holds no artefact (no {MANIFEST}): run its step, or `dvc pull`, first.")
    return Artifact.from_bytes(manifest.read_bytes(), str(manifest))


def _digests(artifact: Artifact) -> dict[str, str]:
    return {path: record.sha256 for path, record in artifact.files.items()}


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(import_artifact(Path(argument)).digest)
