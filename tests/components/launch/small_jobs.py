"""Jobs of `small_rank.py` on this machine, and how tests wait for them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from components.launch.job import JobSpec
from components.launch.torchrun import LOGS

PROGRAM = Path(__file__).with_name("small_rank.py")
PATIENCE = 120.0  # seconds for what takes two; the machine may be busy


def job(folder: Path, behaviour: str, **changes: Any) -> JobSpec:
    given = {"run": "a run", "step": "pretrain", "processes": 2, "environment": {"GREETING": "good morning"}}
    return JobSpec(command=(str(PROGRAM), behaviour, str(folder)), **{**given, **changes})


def until(condition: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < give_up, "what was waited for did not come"
        time.sleep(0.05)
    return found


def ready(folder: Path) -> bool:
    """Both ranks of the job of a folder have said so."""
    logs = [path.read_text() for path in (folder / LOGS).glob("*/attempt_0/*/stdout.log")]
    return len(logs) == 2 and all("ready" in log for log in logs)


def no_rank_lives(folder: Path) -> bool:
    return not any(lives(int(path.read_text())) for path in folder.glob("pid-*"))


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
