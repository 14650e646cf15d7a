"""What follows from each outcome, and that a job is deleted however it ends."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.launch.job import JobSpec
from components.launch.outcomes import Kind, Outcome
from components.launch.supervise import Cancellation, Retries, supervise
from components.launch.torchrun import TorchrunLauncher
from model.errors import UserError
from tests.components.launch.small_jobs import job, no_rank_lives, ready

SPEC = JobSpec(run="a run", step="pretrain", command=("-m", "worker"), max_seconds=60)
AT_ONCE = Retries(first_seconds=0.0, longest_seconds=0.0)


class Scripted:
    """A launcher whose jobs end as they are told to, one after the other; it notes what it was asked."""

    def __init__(self, kinds: Sequence[Kind], found: JobSpec | None = None) -> None:
        self.calls: list[str] = []
        self._kinds = list(kinds)
        self._found = found

    def preflight(self, spec: JobSpec) -> None:
        self.calls.append("preflight")

    def find(self, spec: JobSpec) -> JobSpec | None:
        return self._found

    def submit(self, spec: JobSpec) -> str:
        self.calls.append(f"submit {spec.attempt}")
        return spec.name

    def follow(self, name: str, on_line: Callable[[str], None]) -> Outcome:
        kind = self._kinds.pop(0)
        return Outcome(kind=kind, message=f"so it was: {kind}", exit_code=1)

    def delete(self, name: str) -> None:
        self.calls.append(f"delete {name}")

    @property
    def attempts(self) -> list[str]:
        return [call for call in self.calls if call.startswith("submit")]

    @property
    def deleted(self) -> list[str]:
        return [call.removeprefix("delete ") for call in self.calls if call.startswith("delete")]


def run(
    launcher: Any, retries: Retries = AT_ONCE, spec: JobSpec = SPEC, on_line: Callable[[str], None] = print
) -> Outcome:
    with Cancellation() as cancelled:
        return supervise(launcher, spec, retries=retries, on_line=on_line, cancelled=cancelled)


@pytest.mark.parametrize("kind", ["succeeded", "out_of_memory", "failed", "deadline"])
def test_a_final_outcome_is_not_tried_again(kind: Kind) -> None:
    launcher = Scripted([kind])
    assert run(launcher).kind == kind
    assert launcher.calls == ["preflight", "submit 1", f"delete {SPEC.name}"]


def test_preempted_and_lost_go_on_as_the_next_attempt_and_every_one_is_deleted() -> None:
    launcher = Scripted(["preempted", "node_lost", "preempted", "succeeded"])
    assert run(launcher).kind == "succeeded"
    assert launcher.attempts == ["submit 1", "submit 2", "submit 3", "submit 4"]
    assert launcher.deleted == [SPEC.at_attempt(attempt).name for attempt in (1, 2, 3, 4)]


@pytest.mark.parametrize("kind", ["preempted", "node_lost"])
def test_attempts_in_a_row_are_bounded(kind: Kind) -> None:
    launcher = Scripted([kind] * 10)
    retries = Retries(node_lost=3, preempted=3, first_seconds=0.0, longest_seconds=0.0)
    assert run(launcher, retries).kind == kind
    assert len(launcher.attempts) == 4


def test_an_attempt_that_lasted_starts_the_count_anew() -> None:
    launcher = Scripted(["node_lost"] * 7 + ["succeeded"])
    retries = Retries(node_lost=1, healthy_seconds=0.0, first_seconds=0.0, longest_seconds=0.0)
    assert run(launcher, retries).kind == "succeeded"


def test_no_attempt_starts_after_the_deadline() -> None:
    launcher = Scripted(["node_lost"] * 2)
    outcome = run(launcher, Retries(first_seconds=200.0, longest_seconds=200.0))
    assert outcome.kind == "deadline" and "no time for another attempt within 60 s" in outcome.message
    assert launcher.attempts == ["submit 1"]


def test_an_earlier_launcher_s_attempt_is_taken_up() -> None:
    launcher = Scripted(["preempted", "succeeded"], found=SPEC.at_attempt(5))
    run(launcher)
    assert launcher.attempts == ["submit 5", "submit 6"]


def test_an_error_while_following_deletes_the_job() -> None:
    launcher = Scripted([])
    with pytest.raises(IndexError):
        run(launcher)
    assert launcher.deleted == [SPEC.name]


def test_a_submission_whose_answer_was_lost_is_deleted() -> None:
    class Lost(Scripted):
        def submit(self, spec: JobSpec) -> str:
            raise ConnectionError("reset by peer")

    launcher = Lost([])
    with pytest.raises(ConnectionError):
        run(launcher)
    assert launcher.deleted == [SPEC.name]


def test_another_job_of_that_name_is_left_alone() -> None:
    class Taken(Scripted):
        def submit(self, spec: JobSpec) -> str:
            raise UserError("a job of that name has another digest")

    launcher = Taken([])
    with pytest.raises(UserError, match="another digest"):
        run(launcher)
    assert launcher.deleted == []


def test_a_failed_preflight_submits_nothing() -> None:
    class Refusing(Scripted):
        def preflight(self, spec: JobSpec) -> None:
            raise UserError("there is no quota")

    launcher = Refusing([])
    with pytest.raises(UserError, match="there is no quota"):
        run(launcher)
    assert launcher.calls == []


def test_sigterm_while_submitting_waits_and_then_cancels() -> None:
    class Slow(Scripted):
        def submit(self, spec: JobSpec) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().submit(spec)

    launcher = Slow(["succeeded"])
    assert run(launcher).kind == "cancelled"
    assert launcher.calls == ["preflight", "submit 1", f"delete {SPEC.name}"], "submitted whole, deleted, not followed"


def test_sigterm_during_the_back_off_cancels() -> None:
    launcher = Scripted(["node_lost"])

    def on_line(line: str) -> None:
        if "starts in" in line:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

    outcome = run(launcher, Retries(first_seconds=50.0, longest_seconds=50.0), on_line=on_line)
    assert outcome.kind == "cancelled" and launcher.attempts == ["submit 1"]


def test_the_handler_of_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(Scripted(["succeeded"]))
    assert signal.getsignal(signal.SIGTERM) is before


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 60), st.floats(60, 3600))
def test_the_back_off_doubles_up_to_the_longest_with_a_seeded_jitter(seed: int, first: float, longest: float) -> None:
    retries = Retries(first_seconds=first, longest_seconds=longest, seed=seed)
    waits = [wait for wait, _ in zip(retries.waits(), range(12), strict=False)]
    full = [min(first * 2**index, longest) for index in range(12)]
    assert all(0.5 * most <= wait <= most for wait, most in zip(waits, full, strict=True))
    assert waits == [wait for wait, _ in zip(retries.waits(), range(12), strict=False)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_lost": -1}, "node_lost of the retries is -1"),
        ({"longest_seconds": 1.0}, "longest_seconds of the retries is 1"),
    ],
)
def test_wrong_retries_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Retries(**changes)


@pytest.mark.slow
def test_a_preempted_job_is_resumed_and_sigterm_leaves_nothing(tmp_path: Path) -> None:
    """On real processes: the ranks are told to end once, save, and the next attempt finishes."""
    launcher, spec = TorchrunLauncher(tmp_path / "jobs", grace_seconds=20.0), job(tmp_path, "saves")
    told = threading.Event()

    def preempt() -> None:
        folder = tmp_path / "jobs" / spec.name
        while not told.wait(0.1):
            if ready(folder):
                told.set()
                for path in sorted(tmp_path.glob("pid-*")):
                    with contextlib.suppress(ProcessLookupError):  # torchrun ends one when the other has ended
                        os.kill(int(path.read_text()), signal.SIGTERM)

    lines: list[str] = []
    watching = threading.Thread(target=preempt)
    watching.start()
    try:
        outcome = run(launcher, spec=spec, on_line=lines.append)
    finally:
        told.set()
        watching.join()
    assert outcome.kind == "succeeded"
    assert any(re.match(r"attempt 1: preempted: rank [01] has saved its state", line) for line in lines), lines
    assert any(line.startswith("attempt 2: succeeded") for line in lines)
    assert no_rank_lives(tmp_path) and launcher.find(spec) is None


@pytest.mark.slow
def test_sigterm_cancels_a_running_job(tmp_path: Path) -> None:
    launcher, spec = TorchrunLauncher(tmp_path / "jobs", grace_seconds=20.0), job(tmp_path, "saves")

    def on_line(line: str) -> None:
        if "ready" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(launcher, spec=spec, on_line=on_line).kind == "cancelled"
    assert no_rank_lives(tmp_path) and launcher.find(spec) is None
    assert (tmp_path / "saved-0").exists(), "rank 0 had its grace time"
