"""The processes of a run end when the run ends, also when it was killed without a chance to stop them.

The run holds a lock on `runs/<id>/alive`. The system lets go of it when the process dies, so who can take the lock
knows that the run is gone. Every process that the run started watches it and then ends its process group.
"""

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from components import state

RUN_ID = "LINGBOT_RUN_ID"
_POLL_SECONDS = 1.0


def current_run() -> str | None:
    """The run that started this process; None outside of one."""
    return os.environ.get(RUN_ID) or None


@contextlib.contextmanager
def alive(run_id: str) -> Iterator[None]:
    """Marks the run as going on, while this process lives and is inside."""
    path = _path(run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(str(os.getpid()))
        file.flush()
        yield


def ask_to_stop(run_id: str) -> bool:
    """Tells the process of a run to stop, as Ctrl-C does; whether there was one."""
    if not is_alive(run_id):
        return False
    try:
        os.kill(int(_path(run_id).read_text()), signal.SIGTERM)
    except ProcessLookupError:
        return False  # it has ended since
    return True


def is_alive(run_id: str) -> bool:
    return is_held(_path(run_id))


def is_held(path: Path) -> bool:
    """Whether a process that lives holds a lock on a file; not where there is no such file."""
    if not path.exists():
        return False
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def end_with_run() -> None:
    """Called by a process that a run started: ends its process group soon after the run is gone."""
    run_id = current_run()
    if run_id is None or not _path(run_id).exists():
        return

    def watch() -> None:
        while is_alive(run_id):
            time.sleep(_POLL_SECONDS)
        os.killpg(os.getpgrp(), signal.SIGTERM)

    threading.Thread(target=watch, name="end with the run", daemon=True).start()


def _path(run_id: str) -> Path:
    return state.run_folder(run_id) / "alive"
