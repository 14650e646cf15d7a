"""How many threads of arithmetic a run takes: as many as there are idle cores."""

import math
import os
import time
from pathlib import Path


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
