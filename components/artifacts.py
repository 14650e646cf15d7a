"""What a finished step leaves: its files, and a manifest that says what they are, where from, and their sha256."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components import state
from model.errors import UserError

SCHEMA_VERSION = 1
SCRATCH = ".scratch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of an artefact. `size` in bytes."""

    sha256: str
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where an input came from: the record of the step that made it."""

    step: str
    fingerprint: str
    digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """The manifest of a finished step.

    Attributes:
        schema_version: of the manifest.
        step: who made it.
        kind: what it is: dataset, verdict, packed, ...
        uri: where its files are, below LINGBOT_STORAGE when that is set and below LINGBOT_HOME otherwise.
        digest: sha256 over the sorted (path, sha256) of its files. Equal content has an equal digest, wherever made.
        fingerprint: sha256 over step, input digests, parameters and code version: the folder it lies in.
        files: path relative to the artefact -> FileRecord.
        summary: what the step said about it.
        inputs: input name -> Source.
        parameters: those of the step, complete.
        sources: parameter name -> digest of the files outside of the state folder that it named.
        code_version: of the step's code.

    Nothing in it depends on when or how fast it was made: equal executions have equal manifests.
    """

    schema_version: int = SCHEMA_VERSION
    step: str
    kind: str
    uri: str
    digest: str
    fingerprint: str
    files: Mapping[str, FileRecord]
    summary: Mapping[str, Any]
    inputs: Mapping[str, Source]
    parameters: Mapping[str, Any]
    sources: Mapping[str, str]
    code_version: str

    def to_bytes(self) -> bytes:
        """Readable JSON with a checksum of itself, so that a changed manifest is seen as well as a changed file."""
        values = dataclasses.asdict(self)
        values["checksum"] = _checksum(values)
        return (json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> "Artifact":
        """Reads a manifest; `name` is what errors call it.

        Raises:
            UserError: it is no manifest, was changed after it was written, or is of a newer schema.
        """
        try:
            values = json.loads(content)
            checksum = values.pop("checksum")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{name} is not a manifest of a step: remove its folder and run again") from error
        if checksum != _checksum(values):
            raise UserError(f"{name} was changed after it was written: remove its folder and run again")
        if values["schema_version"] > SCHEMA_VERSION:
            raise UserError(
                f"{name} has schema version {values['schema_version']}, this version reads up to {SCHEMA_VERSION}: "
                "use the newer version that wrote it"
            )
        values["files"] = {path: FileRecord(**record) for path, record in values["files"].items()}
        values["inputs"] = {key: Source(**source) for key, source in values["inputs"].items()}
        return cls(**values)

    def reference(self) -> dict[str, Any]:
        """The few KB that KFP passes from step to step: all but the list of files."""
        values = dataclasses.asdict(self)
        del values["files"]
        return {**values, "file_count": len(self.files), "bytes": self.size}

    @property
    def size(self) -> int:
        return sum(record.size for record in self.files.values())

    @property
    def source(self) -> Source:
        return Source(step=self.step, fingerprint=self.fingerprint, digest=self.digest)


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(state.canonical_json(values)).hexdigest()


def fingerprint(
    step: str,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    sources: Mapping[str, str],
    code_version: str,
) -> str:
    """The identity of an execution: the same fingerprint means the same bytes would come out.

    Args:
        step: its name.
        inputs: input name -> digest.
        parameters: all of them.
        sources: parameter name -> digest of the files that it names. It stands in for the name: a dataset that moved
            to another folder is the same dataset.
        code_version: of the step's code.
    """
    named = {**parameters, **{name: {"digest": digest} for name, digest in sources.items()}}
    identity = {"step": step, "inputs": dict(inputs), "parameters": named, "code_version": code_version}
    return hashlib.sha256(state.canonical_json(identity)).hexdigest()


def digest_of(files: Mapping[str, FileRecord]) -> str:
    """The digest of an artefact: sha256 over its sorted (path, sha256)."""
    return hashlib.sha256(state.canonical_json(sorted((path, files[path].sha256) for path in files))).hexdigest()


def list_files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path relative to it. Links to folders are followed by nobody: they fail."""
    found: dict[str, Path] = {}
    for base, folders, names in os.walk(folder):
        linked = [name for name in folders if Path(base, name).is_symlink()]
        assert not linked, f"{base} holds links to folders: {linked}; an artefact holds its own files"
        for name in names:
            path = Path(base, name)
            found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def hash_folder(folder: Path) -> dict[str, FileRecord]:
    """sha256 and size of every file, read by as many threads as there are cores (hashing releases the interpreter)."""
    paths = list_files(folder)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(hash_file, paths.values()), strict=True))


def hash_file(path: Path) -> FileRecord:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(sha256=sha256, size=file.tell())


def compare(artifact: Artifact, folder: Path) -> list[str]:
    """What is wrong with the bytes of an artefact, one sentence each; empty when every byte is as it was written."""
    if not folder.is_dir():
        return [f"the folder {folder} is missing"]
    present = hash_folder(folder)
    faults = [f"{folder / path} is missing" for path in artifact.files if path not in present]
    faults += [f"{folder / path} is extra" for path in present if path not in artifact.files]
    faults += [
        f"{folder / path} was changed (sha256 {record.sha256[:12]}, recorded {artifact.files[path].sha256[:12]})"
        for path, record in present.items()
        if path in artifact.files and record != artifact.files[path]
    ]
    return sorted(faults)
