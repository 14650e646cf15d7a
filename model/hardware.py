"""What this machine gives a training: how many idle cores, and whether bf16 is fast here."""

import os
from pathlib import Path
from typing import Literal

from model.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def idle_threads() -> int:
    """Cores that are idle now, at least one.

    Two training threads beside another busy process ran 10 to 20 times slower than one (DESIGN section 4): every
    operator ends in a barrier that waits for the preempted thread.
    """
    busy = _busy_cores()
    return max(1, available_cores() - round(busy))


def _busy_cores(seconds: float = 0.5) -> float:
    """Cores kept busy by everybody over a short sample of /proc/stat; 0 where there is no such file."""
    import time

    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    before = _cpu_times(stat)
    time.sleep(seconds)
    after = _cpu_times(stat)
    total = sum(after) - sum(before)
    idle = after[3] + after[4] - before[3] - before[4]
    return available_cores() * (1 - idle / total) if total else 0.0


def _cpu_times(stat: Path) -> list[int]:
    return [int(field) for field in stat.read_text().splitlines()[0].split()[1:9]]


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
