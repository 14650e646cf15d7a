"""The finished steps: where they lie, here and in shared storage, and how they are found, checked and taken back.

    steps/<step>/<fingerprint>/work            what an attempt has written so far; a later attempt resumes from it
                               data            the files of the finished step
                               manifest.json   written when `work` is complete, just before it becomes `data`
                               timing.json     how long it took, and in which run
                               speed.jsonl     figures that depend on the machine, of a step that logs them
                               lock            held by the one process that executes it

A step is finished when both `manifest.json` and `data` are there. With LINGBOT_STORAGE set (a folder or s3://...), the
same layout without `work` is kept there too, manifest last, so that other machines find finished steps.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import state
from components.artifacts import Artifact, compare
from model.errors import UserError

if TYPE_CHECKING:
    from components.adapters.storage import Storage

SPEED = "speed.jsonl"


def manifest_path(step: str, fingerprint: str) -> Path:
    return state.step_folder(step, fingerprint) / "manifest.json"


def work_folder(step: str, fingerprint: str) -> Path:
    return state.step_folder(step, fingerprint) / "work"


def data_folder(step: str, fingerprint: str) -> Path:
    return state.step_folder(step, fingerprint) / "data"


def uri_of(step: str, fingerprint: str) -> str:
    """Where the files of a step are: below LINGBOT_STORAGE, or relative to LINGBOT_HOME when there is none."""
    key = f"steps/{step}/{fingerprint}/data"
    url = os.environ.get("LINGBOT_STORAGE")
    return f"{url.rstrip('/')}/{key}" if url else key


def load_artifact(step: str, fingerprint: str) -> Artifact | None:
    """The manifest of a finished step, from here or from the shared storage; None when it is not finished.

    The manifest is checked, the files are not: `verify` reads those.

    Raises:
        UserError: the manifest was changed.
    """
    path = manifest_path(step, fingerprint)
    if path.exists():
        if work_folder(step, fingerprint).exists() and not data_folder(step, fingerprint).exists():
            return None  # killed between its last two actions: `execute` finishes it
        return Artifact.from_bytes(path.read_bytes(), str(path))
    storage = open_storage()
    key = f"steps/{step}/{fingerprint}/manifest.json"
    if storage is None or not storage.exists(key):
        return None
    content = storage.read_bytes(key)
    artifact = Artifact.from_bytes(content, uri_of(step, fingerprint))
    state.write_atomically(path, content)
    return artifact


def verify(artifact: Artifact) -> list[str]:
    """What is wrong with a finished step's files here; empty when every byte is right.

    Files that lie in the shared storage alone are checked when they are fetched.
    """
    folder = data_folder(artifact.step, artifact.fingerprint)
    if not folder.exists() and _is_stored(artifact):
        return []
    return compare(artifact, folder)


def fetch(artifact: Artifact) -> Path:
    """The folder with the artefact's files, brought from the shared storage when they are not here.

    Raises:
        UserError: the files are nowhere, or what came is not what the manifest says.
    """
    folder = data_folder(artifact.step, artifact.fingerprint)
    if folder.exists():
        return folder
    storage = open_storage()
    if storage is None or not _is_stored(artifact):
        raise UserError(
            f"the files of {artifact.step} {artifact.fingerprint[:12]} are not in {folder}: "
            "set LINGBOT_STORAGE to where they are, or run again to make them"
        )
    with lock(artifact.step, artifact.fingerprint, lambda holder: None):
        if not folder.exists():
            expected = {path: record.sha256 for path, record in artifact.files.items()}
            storage.get_folder(f"{_prefix(artifact)}/data", folder, sha256=expected)
    return folder


def publish(artifact: Artifact) -> None:
    """Copies a finished step to the shared storage, if there is one and it lacks it: files first, manifest last."""
    storage = open_storage()
    if storage is None or storage.exists(f"{_prefix(artifact)}/manifest.json"):
        return
    storage.put_folder(data_folder(artifact.step, artifact.fingerprint), f"{_prefix(artifact)}/data")
    storage.write_bytes(f"{_prefix(artifact)}/manifest.json", artifact.to_bytes())


def open_storage() -> "Storage | None":
    """The storage that LINGBOT_STORAGE names; None when it is not set."""
    url = os.environ.get("LINGBOT_STORAGE")
    if not url:
        return None
    from components.adapters.storage import Storage

    return Storage.from_url(url)


def _is_stored(artifact: Artifact) -> bool:
    storage = open_storage()
    return storage is not None and storage.exists(f"{_prefix(artifact)}/manifest.json")


def _prefix(artifact: Artifact) -> str:
    return f"steps/{artifact.step}/{artifact.fingerprint}"


def invalidate(step: str, fingerprint: str) -> None:
    """Removes a finished step's record and files, so that it runs again; waits for a process that executes it."""
    with lock(step, fingerprint, lambda holder: None):
        remove(step, fingerprint)


def remove(step: str, fingerprint: str) -> None:
    """`invalidate` for who holds the lock. A copy in the shared storage stays: it is checked when it is fetched."""
    manifest_path(step, fingerprint).unlink(missing_ok=True)
    for folder in (data_folder(step, fingerprint), work_folder(step, fingerprint)):
        if folder.exists():
            shutil.rmtree(folder)


def records(step: str) -> Iterator[Artifact]:
    """The finished executions of a step here, whose manifests can be read, oldest first."""
    base = state.steps_folder() / step
    paths = [path for path in base.glob("*/manifest.json") if (path.parent / "data").exists()]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        with contextlib.suppress(UserError):  # a changed manifest is reported by the plan that meets it
            yield Artifact.from_bytes(path.read_bytes(), str(path))


@contextlib.contextmanager
def lock(step: str, fingerprint: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the right to execute this fingerprint. The system releases it when the process dies, however it dies.

    Args:
        step: whose.
        fingerprint: which execution.
        waiting: called once with the holder's process id when another process has it.
    """
    folder = state.step_folder(step, fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            waiting(file.read().strip())
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_timing(artifact: Artifact, used: Mapping[str, Any], run_id: str | None) -> None:
    """Keeps what an execution used (`components.usage`)."""
    path = state.step_folder(artifact.step, artifact.fingerprint) / "timing.json"
    seconds = round(used["seconds"], 3)
    state.write_json(path, {**used, "seconds": seconds, "run": run_id, "finished": round(time.time(), 3)})


def keep_speed(step: str, fingerprint: str, scratch: Path) -> None:
    """Takes a step's log of speed out of its scratch folder: no file of an artefact depends on how fast it was made."""
    if (scratch / SPEED).exists():
        (scratch / SPEED).replace(state.step_folder(step, fingerprint) / SPEED)


def read_timing(step: str, fingerprint: str) -> dict[str, Any] | None:
    """When, in which run and with what use of the machine a step finished; None when that is not known here.

    Older ones have `seconds` alone of its use.
    """
    path = state.step_folder(step, fingerprint) / "timing.json"
    return json.loads(path.read_text()) if path.exists() else None
