"""How many threads, and which precision."""

import subprocess
import sys
import time

import pytest

from model import hardware
from model.errors import UserError


def test_a_busy_core_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 100.0 + 0.5 * 3])  # three cores' worth of work in half a second
    monkeypatch.setattr(hardware, "_busy_seconds", lambda: next(seconds))
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 4)
    assert hardware.idle_cores(0.5) == 1


@pytest.mark.parametrize(("busy", "idle"), [(0, 8), (30, 8), (60, 4), (64, 1)])
def test_a_container_with_a_part_of_a_machine_has_its_part(
    busy: int, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([100.0, 100.0 + 0.01 * busy])
    monkeypatch.setattr(hardware, "_busy_seconds", lambda: next(seconds))
    monkeypatch.setattr(hardware, "available_cores", lambda: 8)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 64)
    assert hardware.idle_cores(0.01) == idle


def test_real_work_is_seen() -> None:
    before = hardware._busy_seconds()
    assert before is not None
    after, end = before, time.monotonic() + 120
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        while after is not None and after - before <= 0.2 and time.monotonic() < end:
            time.sleep(0.05)
            after = hardware._busy_seconds()
        busy.kill()
    assert after is not None and after - before > 0.2


def test_the_environment_decides_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert hardware.arithmetic_threads() == 7


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "bf16_is_fast", lambda: True)
    assert hardware.resolve_precision("auto") == "bf16"
    monkeypatch.setattr(hardware, "bf16_is_fast", lambda: False)
    assert hardware.resolve_precision("auto") == "fp32"
    assert hardware.resolve_precision("bf16") == "bf16"
    with pytest.raises(UserError, match="precision is 'fp8'"):
        hardware.resolve_precision("fp8")
