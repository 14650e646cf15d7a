"""What an execution used of its machine: time, processor time with that of its finished children, and GPUs."""

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


class Meter:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._started, self._cpu = time.monotonic(), _cpu_seconds()

    def read(self) -> dict[str, Any]:
        """{seconds, cpu_seconds, gpus}; GPUs are those that were there for it, if it computed on any."""
        return {
            "seconds": time.monotonic() - self._started,
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "gpus": visible_gpus() if _loaded_torch() else 0,
        }


def visible_gpus() -> int:
    """GPUs that this process could use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return sum(bool(name.strip()) and name.strip() != "-1" for name in chosen.split(","))
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _cpu_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _loaded_torch() -> bool:
    """Steps that only move and check data never load it."""
    return "torch" in sys.modules
