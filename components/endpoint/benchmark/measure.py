"""The measurements of `lingbot bench serve`: overhead, many robots, and the same robots against a server without
batches, in one run."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from components import state
from components.endpoint.benchmark.robots import ask_in_turn, crowd, milliseconds
from components.endpoint.codec import pack
from components.endpoint.server import READY_PREFIX
from model.errors import UserError
from model.robots import load_robot

_WARM_UP = 30


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """What is measured.

    Attributes:
        robots: that ask at once.
        seconds: for which they ask each server.
        model_seconds, extra_seconds: of a call of the simulated model, and of each further observation in it.
        image_size: pixels of each of the three views.
        questions: of one robot alone, for the overhead.
        rounds: of which the medians are taken: batches and one at a time, in turn.
    """

    robots: int = 16
    seconds: float = 10.0
    model_seconds: float = 0.05
    extra_seconds: float = 0.005
    image_size: int = 224
    questions: int = 400
    rounds: int = 1

    def __post_init__(self) -> None:
        for name in ("robots", "seconds", "model_seconds", "image_size", "questions", "rounds"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be over 0")
        if self.extra_seconds < 0:
            raise UserError(f"extra_seconds is {self.extra_seconds}: it must be 0 or more")


def measure_serve(settings: ServeSettings, message: Callable[[str], None]) -> dict[str, Any]:
    """Figures as JSON; times in milliseconds."""
    frame = _frame(settings.image_size)
    message(f"one robot, {settings.questions} questions, three views of {settings.image_size} px")
    alone = _alone(frame, settings)
    batched: list[dict[str, Any]] = []
    single: list[dict[str, Any]] = []
    for turn in range(settings.rounds):
        for limit, results in ((16, batched), (1, single)):
            what = "batches" if limit > 1 else "one at a time"
            message(f"round {turn + 1}: {settings.robots} robots, {what}, {settings.seconds:.0f} s")
            times = ("--seconds", str(settings.model_seconds), "--extra", str(settings.extra_seconds))
            with _server(*times, "--max-batch", str(limit)) as address:
                results.append(_crowded(address, frame, settings))
    ratio = [one["latency_ms"]["p99"] / many["latency_ms"]["p99"] for many, one in zip(batched, single, strict=True)]
    return {
        "message_bytes": len(frame),
        **{name: milliseconds(seconds) for name, seconds in alone.items()},
        **{
            f"of_it_ours{of_it}_ms": milliseconds(alone[f"overhead{of_it}_ms"] - alone[f"bare_websocket{of_it}_ms"])
            for of_it in ("", "_back_to_back")
        },
        "batches": batched,
        "one_at_a_time": single,
        "p99_ratio": [round(one, 2) for one in ratio],
    }


def _alone(frame: bytes, settings: ServeSettings) -> dict[str, np.ndarray]:
    """Seconds beside the model, of one robot that asks the endpoint and a bare websocket in turn.

    First with the model's time between question and answer, which the bare one waits, too: it meets a machine that has
    gone to sleep meanwhile, as the endpoint does. Then back to back with a model that takes no time: what is left when
    nothing has to wake.
    """
    found: dict[str, np.ndarray] = {}
    for seconds, of_it in ((settings.model_seconds, ""), (0.0, "_back_to_back")):
        times = ("--seconds", str(seconds))
        with _server(*times) as endpoint, _server(*times, "--bare") as bare:
            answers = ask_in_turn((endpoint, bare), frame, settings.questions + _WARM_UP)
        for name, asked in zip(("overhead", "bare_websocket"), answers, strict=True):
            found[f"{name}{of_it}_ms"] = np.array([one.seconds - one.model_seconds for one in asked[_WARM_UP:]])
    return found


def _crowded(address: str, frame: bytes, settings: ServeSettings) -> dict[str, Any]:
    asked, probes = crowd(address, frame, robots=settings.robots, seconds=settings.seconds)
    # The first answers of each robot fall into the rush at the start, when all connect.
    latencies = [one.seconds for robot in asked for one in robot[2:]]
    answers = [len(robot) for robot in asked]
    return {
        "latency_ms": milliseconds(latencies),
        "answers_per_second": round(sum(answers) / settings.seconds, 1),
        "answers_of_a_robot": {"fewest": min(answers), "most": max(answers)},
        "probes_ms": milliseconds(probes),
    }


def _frame(size: int) -> bytes:
    """A message of three views of noise, of the robot that the simulated server serves."""
    robot = load_robot("aloha_sim")
    rng = np.random.Generator(np.random.Philox(0))
    views = {
        f"observation.images.{name}": rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        for name in robot.cameras.values()
    }
    state_values = np.zeros(len(robot.state_names), dtype=np.float32)
    return pack({**views, "observation.state": state_values, "task": "lift the cube with the right arm", "seed": 0})


@contextlib.contextmanager
def _server(*options: str) -> Iterator[str]:
    """The simulated server as a process of its own: its address."""
    command = [sys.executable, "-m", "components.endpoint.benchmark.simulated", *options]
    paths = (str(state.checkout()), os.environ.get("PYTHONPATH"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith(READY_PREFIX):
                raise RuntimeError(f"the simulated server did not start: {line or 'see above'}")
            yield line.removeprefix(READY_PREFIX).strip().removeprefix("http://")
        finally:
            process.send_signal(signal.SIGTERM)
