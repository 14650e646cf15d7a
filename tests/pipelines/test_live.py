import io
import json
from types import SimpleNamespace

import pytest

from components.progress import FileProgress, progress_path
from pipelines.live import PlainView, StepState, duration, open_view, render


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path))


@pytest.fixture
def clock(monkeypatch):
    """The time of what is written and of what is shown; it stands still."""
    clock = SimpleNamespace(time=lambda: 1_000_000.0, monotonic=lambda: 50.0)
    for module in ("components.progress", "pipelines.live"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


def follow(view, states, run_id="r"):
    view.show(states, [(step, event) for step in states for event in step.read(run_id)])


def test_plain_lines_say_when_steps_start_and_end_and_what_they_do(clock):
    stream = io.StringIO()
    states = [StepState("pack"), StepState("pretrain")]
    view = PlainView(stream, every_seconds=0.0)
    pack = FileProgress(progress_path("r", "pack"))
    follow(view, states)
    assert stream.getvalue() == ""
    pack.event("start", fingerprint="f")
    pack.message("reading 12 episodes")
    follow(view, states)
    pack.event("end", status="done", seconds=71.0)
    pretrain = FileProgress(progress_path("r", "pretrain"))
    pretrain.event("start", fingerprint="g")
    pretrain.update(50, 100, loss=0.25)
    follow(view, states)
    pretrain.event("end", status="done", seconds=9.0)
    follow(view, states)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "pack: started"
    assert lines[1] == "pack: 0.0 s  reading 12 episodes"
    assert lines[2:4] == ["pack: done (1 min 11 s)", "pretrain: started"]
    assert "pretrain: done (9.0 s)  50/100  loss 0.25" in lines
    assert [step.status for step in states] == ["done", "done"]
    assert states[1].fingerprint == "g"


def test_a_quiet_view_says_nothing_between():
    stream = io.StringIO()
    states = [StepState("pack")]
    view = PlainView(stream, every_seconds=60.0)
    progress = FileProgress(progress_path("r", "pack"))
    progress.event("start", fingerprint="f")
    for done in range(100):
        progress.update(done, 100)
        follow(view, states)
    assert stream.getvalue() == "pack: started\n"


def test_the_table_shows_every_step(clock):
    from rich.console import Console

    stream = io.StringIO()
    states = [
        StepState("collect", status="cached", seconds=0.1),
        StepState("pretrain", status="running", started=clock.time() - 65, doing="50/100  loss 0.25"),
        StepState("evaluate"),
    ]
    Console(file=stream, width=100).print(render(states, 70.0))
    shown = stream.getvalue()
    assert "1 min 10 s elapsed" in shown
    for words in (["collect", "cached", "0.1 s"], ["pretrain", "running", "1 min 05 s", "loss 0.25"], ["evaluate"]):
        assert any(all(word in line for word in words) for line in shown.splitlines())


def test_a_terminal_gets_the_table():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = FileProgress(progress_path("r", "pack"))
    progress.event("start", fingerprint="f")
    progress.update(1, 2, loss=json.loads("NaN"))
    states = [StepState("pack")]
    with open_view(stream) as view:
        follow(view, states)
    assert "running" in stream.getvalue()
    assert "loss nan" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (9.94, "9.9 s"), (12.3, "12 s"), (185, "3 min 05 s"), (3725, "1 h 02 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
