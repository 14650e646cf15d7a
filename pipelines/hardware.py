"""What a run ran on and with: processor, memory, idle cores, versions of libraries, the commit of the code."""

import importlib.metadata
import math
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from components import state

# Libraries that results depend on; issue reports and reproductions compare them.
_LIBRARIES = (
    "torch", "numpy", "pyarrow", "av", "mujoco", "gym-aloha", "transformers",
    "kfp", "mlflow", "great_expectations", "dvc",
)  # fmt: skip
# Instruction sets that decide which arithmetic is fast here (bf16 needs AMX).
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "sha_ni")


def hardware() -> dict[str, Any]:
    """Processor, cores, memory (bytes), operating system."""
    return {
        "processor": _cpu_info("model name") or platform.processor() or platform.machine(),
        "features": sorted(set(_cpu_info("flags").split()) & set(_FLAGS)),
        "cores": available_cores(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
    }


def _cpu_info(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, math.ceil(int(limit) / int(period)))
    return max(1, cores)


def idle_cores(seconds: float = 0.5) -> int:
    """How many of the available cores are idle just now, at least 1.

    Training threads that share their cores with a busy process wait for each other and run ten times slower, so a run
    takes only what is free. The load average would still count what ended a minute ago, an installation for example.
    """
    cores = available_cores()
    before = _busy_seconds()
    if before is None:
        return max(1, cores - round(os.getloadavg()[0]))
    time.sleep(seconds)
    busy = (_busy_seconds() or before) - before
    return max(1, cores - round(busy / seconds))


def _busy_seconds() -> float | None:
    """Seconds of work of all cores since the start of the system; None where the system does not tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _wait, *interrupts = map(int, path.read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    """Python and those of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> dict[str, Any]:
    """{commit, dirty} of the checkout; commit None where it is no git checkout."""
    root = state.checkout()
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    changes = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True)
    if head.returncode != 0:
        return {"commit": None, "dirty": None}
    return {"commit": head.stdout.strip(), "dirty": bool(changes.stdout.strip())}
