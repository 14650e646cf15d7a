"""The files behind a result: of a run, a release or a version, fetched as far as a comparison needs them.

Of a release, what this machine made itself is taken from the state folder; the rest comes from DVC's remote, file by
file, into `LINGBOT_HOME/releases/<commit>/<step>`, each checked against the release's record.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from components import records, state
from components.adapters.storage import CorruptObject
from components.adapters.versioning import Dvc
from components.artifacts import Artifact, FileRecord, hash_file
from components.exchange import DATA
from pipelines.history import read_run
from pipelines.versions.tags import Release, apart, default_remote, find_release
from pipelines.versions.targets import is_run, is_tag


class Contents(Protocol):
    """Finds files of a step's artefact."""

    def folder(self, step: str, paths: Sequence[str]) -> Path | None:
        """A folder that holds these files, and all files below these folders; None when the step has no artefact.

        Raises:
            UserError: they are nowhere, or not what was recorded.
        """


def contents_of(reference: str, *, remote: str | None = None) -> Contents:
    """The files behind a tag, a run or a version.

    Raises:
        UserError: there is no such.
    """
    from pipelines.versions.targets import find_version, version_artifacts

    if is_tag(reference):
        return _OfRelease(find_release(reference), remote)
    if is_run(reference):
        return OfArtifacts(_finished(read_run(reference)))
    return OfArtifacts(version_artifacts(find_version(reference)))


def _finished(run: Mapping[str, Any]) -> dict[str, Artifact]:
    """The artefacts of a run's finished steps; of one that has not ended, those that there are."""
    found = {}
    for entry in run["steps"]:
        artifact = records.load_artifact(entry["step"], entry["fingerprint"]) if entry.get("digest") else None
        if artifact is not None and artifact.digest == entry["digest"]:
            found[entry["name"]] = artifact
    return found


class OfArtifacts:
    """Finished steps of the state folder or the shared storage."""

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self.artifacts = artifacts

    def folder(self, step: str, paths: Sequence[str]) -> Path | None:
        return records.fetch(self.artifacts[step]) if step in self.artifacts else None


class OfHome:
    """Finished steps of another state folder, one of each."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def folder(self, step: str, paths: Sequence[str]) -> Path | None:
        return next((self.home / "steps" / step).glob(f"*/{DATA}"), None)


class _OfRelease:
    def __init__(self, release: Release, remote: str | None) -> None:
        self.release, self.remote = release, remote

    def folder(self, step: str, paths: Sequence[str]) -> Path | None:
        entry = self.release.record["steps"].get(step)
        if entry is None:
            return None
        here = records.load_artifact(step, entry["fingerprint"])
        if here is not None and here.digest == entry["digest"] and records.data_folder(step, here.fingerprint).exists():
            return records.data_folder(step, here.fingerprint)
        wanted = {
            path: FileRecord(**values)
            for path, values in entry["files"].items()
            if any(path == name or path.startswith(f"{name}/") for name in paths)
        }
        place = state.home() / "releases" / self.release.commit / step
        missing = [path for path, record in wanted.items() if not _is(place / path, record)]
        if missing:
            self._pull(step, place, {path: wanted[path] for path in missing})
        return place

    def _pull(self, step: str, place: Path, wanted: Mapping[str, FileRecord]) -> None:
        with apart(self.release.commit, "fetch") as tree:
            dvc = Dvc(tree.root)
            remote = self.remote or self.release.record["remote"] or default_remote()
            dvc.use(remote=remote, cache=state.home() / "dvc-cache")
            base = f"artifacts/{step}/{DATA}"
            dvc.run("pull", *(f"{base}/{path}" for path in wanted))
            for path, record in wanted.items():
                if not _is(tree.root / base / path, record):
                    raise CorruptObject(
                        f"{step}/{path} is not the file that '{self.release.tag}' released: the remote was changed; "
                        "restore it from a copy"
                    )
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree.root / base / path, place / path)


def _is(path: Path, record: FileRecord) -> bool:
    return path.is_file() and hash_file(path) == record
