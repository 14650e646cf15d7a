"""Runs of this machine from another terminal: watched, ended, taken up again."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components import state
from components.liveness import is_alive
from pipelines import going, history, run
from pipelines.cli import main
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile

# A run of one step, as far as others see it: it goes on until it is told to stop.
RUN = """
import json, signal, sys, time
from components import state
from components.liveness import alive
from components.progress import open_progress
from pipelines.signals import stop_on_signals

run_id = sys.argv[1]
path = state.run_folder(run_id) / "run.json"
record = json.loads(path.read_text())
with alive(run_id), stop_on_signals():
    progress = open_progress("collect", run_id)
    progress.event("start", fingerprint="f" * 64)
    try:
        print("going", flush=True)  # in here: from now on it may be told to stop
        time.sleep(600)
    except KeyboardInterrupt:
        progress.event("end", status="failed", seconds=1.0)
        state.write_json(path, record | {"status": "stopped"})
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path))
    return tmp_path


def record(run_id: str, **more: Any) -> str:
    parameters = load_parameters(settings=["pretrain.steps=7", "seed=3"])
    values = {
        "id": run_id, "pipeline": "demonstrations_to_policy", "preset": "demo", "status": "running",
        "schema_version": 1, "started": 0.0, "seconds": None,
        "steps": [{"name": "collect", "step": "collect", "status": "waiting"}], "error": None,
        "profile": load_profile("laptop").to_json(), "served": None, "report": None,
        "provenance": {
            "parameters": parameters.to_json(), "data": None, "command": ["lingbot"], "code": {"dirty": None},
        },
    }  # fmt: skip
    state.write_json(state.run_folder(run_id) / "run.json", values | more)
    return run_id


@pytest.fixture
def running(home: Path) -> Iterator[str]:
    """The id of a run that another process does."""
    run_id = record("20260101-000000-aaaa")
    command = [sys.executable, "-c", RUN, run_id]
    with subprocess.Popen(command, cwd=state.checkout(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            yield run_id
        finally:
            process.kill()


def test_cancelling_is_ctrl_c_from_elsewhere(running: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "cancel", running]) == 0
    assert not is_alive(running)
    assert f"`lingbot runs retry {running}` goes on from there" in capsys.readouterr().out
    assert main(["runs", "watch", running]) == 130
    assert "collect: started" in capsys.readouterr().out
    assert main(["runs", "cancel", running]) == 2
    assert "is stopped: there is nothing to cancel" in capsys.readouterr().err


def test_a_run_that_ends_while_it_is_told_to_stop_has_ended(
    running: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.kill

    def too_late(process: int, number: int) -> None:
        real(process, signal.SIGKILL)
        while is_alive(running):
            time.sleep(0.01)
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", too_late)
    assert main(["runs", "cancel", running]) == 2
    assert f"run {running} is killed: there is nothing to cancel" in capsys.readouterr().err


def test_watching_lasts_as_long_as_the_run(running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def pause(seconds: float) -> None:
        looks.append(is_alive(running))
        if len(looks) == 2:
            going.ask_to_stop(running)
        waited = time.monotonic() + 60
        while len(looks) > 1 and is_alive(running) and time.monotonic() < waited:
            time.sleep(0.01)

    monkeypatch.setattr(going, "_pause", pause)
    assert going.watch(running) == 130
    assert looks == [True, True]


def test_a_run_goes_on_until_its_record_is_the_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who watches it looks at its lock, and reads the record when that is gone."""
    saved: list[tuple[str, bool]] = []

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    made_from = {"parameters": {}, "code": {"dirty": None}}
    monkeypatch.setattr(run, "provenance", lambda *given, **named: made_from)
    monkeypatch.setattr(run, "THREAD_VARIABLES", ())
    monkeypatch.setattr(run.LocalRun, "_prepare", stop)
    monkeypatch.setattr(run.LocalRun, "_save", lambda self: saved.append((self.record["status"], is_alive(self.id))))
    made = run.LocalRun("demonstrations_to_policy", load_parameters(), load_profile("laptop"), stream=io.StringIO())
    assert made.execute() == 130
    assert saved == [("stopped", True)] and not is_alive(made.id)


def test_a_run_that_ends_between_two_looks_was_not_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = record("20260101-000000-dddd")

    def looked_too_late(asked: str) -> bool:
        record(asked, status="done")
        return False

    monkeypatch.setattr(history, "is_alive", looked_too_late)
    assert history.read_run(run_id)["status"] == "done"


def test_retrying_takes_the_parameters_of_then(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = record("20260101-000000-bbbb", status="stopped")
    begun: list[Any] = []

    class Run:
        def __init__(self, *given: Any) -> None:
            begun.append(given)

        def execute(self) -> int:
            return 0

    monkeypatch.setattr(going, "LocalRun", Run)
    assert main(["runs", "retry", run_id]) == 0
    ((pipeline, parameters, profile, data),) = begun
    assert (pipeline, parameters.seed, parameters.steps["pretrain"]["steps"]) == ("demonstrations_to_policy", 3, 7)
    assert parameters == load_parameters(settings=["pretrain.steps=7", "seed=3"])
    assert profile == load_profile("laptop") and data is None


def test_what_is_done_is_not_taken_up_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "retry", record("20260101-000000-cccc", status="done")]) == 2
    assert "is done: `lingbot run` makes another" in capsys.readouterr().err


def test_a_list_of_no_runs_says_so(home, capsys):
    assert main(["runs", "list"]) == 0
    assert f"nothing has run yet below {home}: start with `lingbot run`" in capsys.readouterr().out
    assert main(["runs", "list", "--json"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", [lambda text: text[:40], lambda text: text.replace('"steps"', '"stages"')])
def test_a_record_that_cannot_be_read_is_told_of_and_hides_no_other(home, capsys, damage):
    first, broken = record("20261122-100000-aaaa", status="done"), record("20261122-110000-bbbb")
    path = state.run_folder(broken) / "run.json"
    path.write_text(damage(path.read_text()))
    said = f"{path} cannot be read as the record of a run"
    assert main(["runs", "show", broken]) == 2
    assert said in capsys.readouterr().err
    told: list[str] = []
    assert [run["id"] for run in history.read_runs(told.append)] == [first]
    assert len(told) == 1 and said in told[0]
    assert main(["runs", "list"]) == 0
    above, below = capsys.readouterr().out.splitlines()
    assert above.startswith(f"{broken}  unreadable: {said}") and below.startswith(f"{first}  ")
    assert main(["runs", "list", "--json"]) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["unreadable", "done"]
