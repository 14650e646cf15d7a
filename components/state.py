"""Where the state of the project lives: runs, finished steps, KFP's files (DESIGN section 6).

Everything is below one folder, `home()`: the value of LINGBOT_HOME, or `.lingbot` in the checkout.
"""

import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError


def checkout() -> Path:
    """The folder that holds the packages `pipelines`, `components` and `model` which are running."""
    return Path(__file__).parent.parent


def home() -> Path:
    """LINGBOT_HOME, or `.lingbot` in the checkout. The folder need not exist yet."""
    given = os.environ.get("LINGBOT_HOME")
    return Path(given).expanduser().absolute() if given else checkout() / ".lingbot"


def runs_folder() -> Path:
    return home() / "runs"


def run_folder(run_id: str) -> Path:
    return runs_folder() / run_id


def steps_folder() -> Path:
    return home() / "steps"


def step_folder(step: str, fingerprint: str) -> Path:
    """Folder of one execution of a step: `work` or `data`, `manifest.json` and `lock`."""
    return steps_folder() / step / fingerprint


def kfp_folder() -> Path:
    return home() / "kfp"


def new_run_id() -> str:
    """A run id that sorts by time (UTC), for example `20261122-142301-9f3c07`.

    The first three of the last six digits are 4096ths of the second: a run that takes everything as it stands is over
    in 0.6 s, and of two runs that began in one second `last` is the second one.
    """
    second, rest = divmod(time.time_ns(), 10**9)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(second))
    return f"{stamp}-{rest * 4096 // 10**9:03x}{secrets.randbelow(4096):03x}"


def make_home() -> Path:
    """Creates the state folder.

    Raises:
        UserError: it cannot be written to.
    """
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A whole write, because permission bits say nothing about read-only mounts.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the state folder {folder} cannot be written ({error.strerror or error}): "
            "make it writable or set LINGBOT_HOME to a folder that is"
        ) from error
    return folder


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces. Digests are taken over it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a kill at any moment, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's and the thread's own: two of either may write the same file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Writes readable JSON atomically; the order of keys is the writer's."""
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
