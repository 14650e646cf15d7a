"""Jobs of two ranks on this machine: what is heard of them, how they end, and that nothing of them is left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.launch.job import JobSpec
from components.launch.torchrun import LOGS, RECORD, TorchrunLauncher, members
from model.errors import UserError
from tests.components.launch.small_jobs import job, no_rank_lives, ready, until


def launcher_in(folder: Path, grace_seconds: float = 20.0) -> TorchrunLauncher:
    return TorchrunLauncher(folder / "jobs", grace_seconds=grace_seconds)


@pytest.mark.slow
def test_a_job_runs_its_ranks_and_streams_rank_0(tmp_path: Path) -> None:
    launcher, spec, lines = launcher_in(tmp_path), job(tmp_path, "ends"), list[str]()
    name = launcher.submit(spec)
    assert launcher.submit(spec) == name, "adopted: the same job is not started twice"
    outcome = launcher.follow(name, lines.append)
    assert (outcome.kind, outcome.exit_code) == ("succeeded", 0)
    assert "[rank 0] rank 0 of 2: good morning" in lines
    assert not any("rank 1 of 2" in line for line in lines)
    logs = tmp_path / "jobs" / name / LOGS
    assert [path.read_text() for path in logs.glob("*/attempt_0/1/stdout.log")] == ["rank 1 of 2: good morning\n"]
    launcher.delete(name)
    assert launcher.find(spec) is None


@pytest.mark.slow
def test_the_rank_that_fails_is_named_with_its_exception_and_last_lines(tmp_path: Path) -> None:
    launcher, spec, lines = launcher_in(tmp_path), job(tmp_path, "fails"), list[str]()
    outcome = launcher.follow(launcher.submit(spec), lines.append)
    assert (outcome.kind, outcome.exit_code) == ("failed", 1)
    assert outcome.message == "rank 1 failed with exit code 1: ValueError"
    assert outcome.logs["1"].endswith("ValueError: sample 17 holds no image")
    assert "[rank 1] ValueError: sample 17 holds no image" in lines
    assert no_rank_lives(tmp_path), "torchrun ends the other rank"
    launcher.delete(spec.name)


@pytest.mark.soak
def test_a_killed_rank_ran_out_of_memory_and_no_other_is_blamed(tmp_path: Path) -> None:
    launcher, spec = launcher_in(tmp_path), job(tmp_path, "is killed")
    outcome = launcher.follow(launcher.submit(spec), print)
    assert (outcome.kind, outcome.exit_code) == ("out_of_memory", 137)
    assert outcome.message == "rank 1 was ended by SIGKILL (exit code 137)"
    launcher.delete(spec.name)


@pytest.mark.slow
def test_a_deadline_ends_ranks_that_do_not_listen(tmp_path: Path) -> None:
    launcher, spec = launcher_in(tmp_path, grace_seconds=1.0), job(tmp_path, "is stubborn", max_seconds=12)
    name = launcher.submit(spec)
    outcome = launcher.follow(name, print)
    assert outcome.kind == "deadline" and "took more than 12 s" in outcome.message
    assert members(tmp_path / "jobs" / name) == [] and no_rank_lives(tmp_path)
    launcher.delete(name)


LAUNCH = """
import sys
from pathlib import Path
from components.launch.job import JobSpec
from components.launch.torchrun import TorchrunLauncher
launcher = TorchrunLauncher(Path(sys.argv[1]), grace_seconds=20.0)
command, environment = tuple(sys.argv[2:]), {"GREETING": "good morning"}
spec = JobSpec(run="a run", step="pretrain", processes=2, environment=environment, command=command)
print(launcher.follow(launcher.submit(spec), lambda line: print(line, flush=True)))
"""


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_rank_and_the_next_one_resumes(tmp_path: Path) -> None:
    spec = job(tmp_path, "saves")
    arguments = [sys.executable, "-c", LAUNCH, str(tmp_path / "jobs"), *spec.command]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    folder, second = tmp_path / "jobs" / spec.name, launcher_in(tmp_path)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=environment) as first:
        try:
            until(lambda: ready(folder))
            assert len(members(folder)) == 3, "torchrun and two ranks"
            with pytest.raises(UserError, match=f"is run by process {first.pid} already"):
                second.submit(spec)
        finally:
            first.kill()
    until(lambda: not members(folder))
    assert no_rank_lives(tmp_path)

    assert second.find(spec) == spec
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}
    assert second.follow(second.submit(spec), print).kind == "succeeded"
    second.delete(spec.name)


def record(folder: Path, spec: JobSpec, **changes: Any) -> Path:
    """What a launcher leaves of a job, here one that is gone."""
    values = {"run": spec.run, "step": spec.step, "attempt": spec.attempt, "digest": spec.digest}
    path = folder / "jobs" / spec.name / RECORD
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**values, "launcher": 1, "launcher_started": 0, **changes}))
    return path


def test_another_job_of_the_run_and_step_that_goes_on_is_refused(tmp_path: Path) -> None:
    launcher, spec = launcher_in(tmp_path), job(tmp_path, "ends")
    record(tmp_path, spec, digest="0123", launcher=os.getpid(), launcher_started=psutil.Process().create_time())
    for call in (launcher.find, launcher.submit):
        with pytest.raises(UserError, match=f"goes on in .*digest 0123, this one's is .*process {os.getpid()}"):
            call(spec)


def test_what_a_killed_launcher_left_of_another_job_is_no_obstacle(tmp_path: Path) -> None:
    launcher, spec = launcher_in(tmp_path), job(tmp_path, "ends")
    record(tmp_path, spec, digest="0123")
    assert launcher.find(spec) is None


def test_the_newest_attempt_is_found(tmp_path: Path) -> None:
    launcher, spec = launcher_in(tmp_path), job(tmp_path, "ends")
    for attempt in (1, 3, 2):
        record(tmp_path, spec.at_attempt(attempt))
    assert launcher.find(spec) == spec.at_attempt(3)
    assert launcher.find(job(tmp_path, "ends", step="finetune")) is None


def test_deleting_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    launcher_in(tmp_path).delete("no-such-job")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 2}, "the job has 2 nodes: torchrun here has one machine"),
        ({"processes": 100_000}, "100000 processes and"),
    ],
)
def test_what_this_machine_cannot_run_is_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        launcher_in(tmp_path).preflight(job(tmp_path, "ends", **changes))
