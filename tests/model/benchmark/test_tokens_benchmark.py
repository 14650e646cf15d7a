"""What the benchmark of tokens makes of a machine that stands still."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from model.benchmark import tokens


def test_a_pause_before_the_first_read_is_no_rate_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    still = SimpleNamespace(perf_counter=lambda: next(clock), process_time=lambda: next(clock))
    monkeypatch.setattr(tokens, "time", still)
    rate = tokens.measure_plain(tmp_path, frames=8, tokens=2, channels=4, seconds=0.05)
    assert rate.reads_per_second > 0 and rate.seconds_of_cpu > 0
