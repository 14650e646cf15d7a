"""What this machine gives to arithmetic: how many idle cores, and whether bf16 is fast here."""

import math
import os
import time
from pathlib import Path
from typing import Literal

from model.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16")
# By which the libraries of arithmetic are told how many threads to take.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, math.ceil(int(limit) / int(period)))
    return max(1, cores)


def idle_cores(seconds: float = 0.5) -> int:
    """How many of the available cores may be taken just now: as many as are idle on the machine, at least 1.

    Two training threads beside another busy process ran 10 to 20 times slower than one (DESIGN section 4): every
    operator ends in a barrier that waits for the preempted thread. The load average would still count what ended a
    minute ago, an installation for example.
    """
    cores = available_cores()
    before = _busy_seconds()
    if before is None:
        busy = os.getloadavg()[0]
    else:
        time.sleep(seconds)
        busy = ((_busy_seconds() or before) - before) / seconds
    # What is busy may be others' cores: of 64 with 30 at work, a container with a quota of 8 has its 8.
    return max(1, min(cores, (os.cpu_count() or cores) - round(busy)))


def arithmetic_threads() -> int:
    """Threads for this process: what OMP_NUM_THREADS says (a run chooses once, a reproduction reuses it), or idle."""
    return int(os.environ.get("OMP_NUM_THREADS") or 0) or idle_cores()


def _busy_seconds() -> float | None:
    """Seconds of work of all cores since the start of the system; None where the system does not tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _wait, *interrupts = map(int, path.read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def bf16_is_fast() -> bool:
    """True where the CPU multiplies bf16 matrices in hardware; elsewhere bf16 is emulated, about 50 times slower."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return "amx_bf16" in flags.split()


def resolve_precision(precision: str) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 where it is fast, else fp32."""
    if precision not in PRECISIONS:
        raise UserError(f"precision is '{precision}': it must be one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        return "bf16" if bf16_is_fast() else "fp32"
    return "bf16" if precision == "bf16" else "fp32"
