"""A robot for people without one: the simulated arms, moved by whatever policy an endpoint serves.

    python -m model.simulation.robot --server ws://127.0.0.1:8000 --video robot.mp4

It asks as a real robot would, over the websocket and through the robots' client, and shows what the policy does: in a
window where there is a screen, otherwise as a video.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from model.errors import UserError
from model.evaluation.actors import noise_seed
from model.simulation.tasks import TASKS, Task, find_task

if TYPE_CHECKING:
    from lingbot_client import PolicyClient
    from model.simulation.environment import Simulation

VIDEO = Path("robot.mp4")


@dataclass
class Showing:
    """What there is to show of a running episode."""

    simulation: "Simulation"
    seed: int
    who: str  # the version that answers
    views: dict[str, np.ndarray]
    looks: int = 0
    latency_ms: float = 0.0
    passed: int = 0
    seconds: float = 0.0
    outcome: str = ""

    def text(self) -> tuple[str, str]:
        return (
            f'"{self.simulation.task.instruction}"   {self.outcome}',
            f"{self.who}   scene {self.seed}   {self.seconds:.1f} s   look {self.looks}, {self.latency_ms:.0f} ms",
        )

    def checkpoints(self) -> list[tuple[str, bool]]:
        return [(name, number < self.passed) for number, name in enumerate(self.simulation.task.checkpoints)]


class Screen(Protocol):
    """Where an episode is shown: `tick` after every 1/50 s of it, `end` with its outcome."""

    def tick(self, showing: Showing) -> None: ...

    def end(self, showing: Showing) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Played:
    """How an episode went. `latencies` [looks] in milliseconds, as the robot measured them."""

    seed: int
    success: bool
    seconds: float
    checkpoints: tuple[str, ...]  # those that were passed
    latencies: tuple[float, ...]
    version: str

    def sentence(self) -> str:
        done = f"done after {self.seconds:.1f} s" if self.success else f"not done within {self.seconds:.1f} s"
        passed = ", ".join(self.checkpoints) or "no checkpoint"
        typical = statistics.median(self.latencies)
        return f"scene {self.seed}: {done} ({passed}), {len(self.latencies)} looks of {typical:.0f} ms, {self.version}"


def make_simulation(client: "PolicyClient", task: Task) -> "Simulation":
    """The arms as the served policy wants to see them.

    Raises:
        UserError: it wants views that the simulated cameras do not give.
    """
    from model.simulation.environment import Simulation

    contract = client.contract
    sizes = {(camera["height"], camera["width"]) for camera in contract["cameras"]}
    height, width = sorted(sizes)[0]
    if len(sizes) > 1 or height != width:
        raise UserError(f"the policy wants views of {sorted(sizes)}: the simulated cameras give squares of one size")
    if contract["control_hz"] != int(contract["control_hz"]):
        raise UserError(f"the policy acts at {contract['control_hz']} Hz: the simulated arms take whole rates")
    cameras = [camera["name"] for camera in contract["cameras"]]
    return Simulation(task.name, image_size=height, fps=int(contract["control_hz"]), cameras=cameras)


def choose_task(name: str, instructions: Sequence[str]) -> Task:
    """The task called `name`, or the first that the policy was trained on.

    Raises:
        UserError: there is no such task.
    """
    if name:
        return find_task(name)
    return next((task for task in TASKS.values() if task.instruction in instructions), find_task("lift_right"))


def play(
    client: "PolicyClient",
    simulation: "Simulation",
    *,
    seed: int,
    execute_steps: int | None = None,
    screen: Screen | None = None,
) -> Played:
    """One episode: from the scene of `seed` until the task is done or its time is over."""
    from lingbot_client import ActionChunkBroker, observation

    task = simulation.task
    broker = ActionChunkBroker(client, execute_steps=execute_steps)
    simulation.reset(seed)
    broker.reset()
    showing = Showing(simulation=simulation, seed=seed, who="", views={})
    latencies: list[float] = []
    on_tick: Callable[[], None] | None = (lambda: screen.tick(showing)) if screen is not None else None
    success = False
    for step in range(round(task.max_seconds * simulation.fps)):
        look = None
        if broker.due:
            showing.views = simulation.observe()["images"]
            look = observation(showing.views, simulation.state(), task.instruction, seed=noise_seed(seed, step))
        action = broker.act(look)
        if look is not None:
            assert broker.reply is not None
            latencies.append(client.latency_ms)
            showing.who = _who(broker.reply)
            showing.looks, showing.latency_ms = len(latencies), client.latency_ms
        result = simulation.step(action, on_tick)
        showing.passed, showing.seconds, success = result.checkpoints_passed, result.time, result.success
        if success:
            break
    showing.outcome = "done" if success else "not done in time"
    if screen is not None:
        screen.end(showing)
    return Played(
        seed=seed,
        success=success,
        seconds=showing.seconds,
        checkpoints=task.checkpoints[: showing.passed],
        latencies=tuple(latencies),
        version=showing.who,
    )


def _who(reply: dict[str, object]) -> str:
    return f"{reply.get('model_name', 'policy')} version {reply.get('model_version', 'unknown')}"


def has_screen() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model.simulation.robot", description=__doc__.split("\n")[0])
    parser.add_argument("--server", required=True, metavar="URL", help="of the endpoint: ws://HOST:PORT")
    parser.add_argument("--task", default="", help="simulated task (default: the first that the policy has learned)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first scene (0)")
    parser.add_argument("--episodes", type=int, default=1, help="how many scenes (1)")
    parser.add_argument("--execute-steps", type=int, help="steps of a chunk before the next look (all)")
    parser.add_argument("--key-file", type=Path, help="file with the endpoint's key, where it wants one")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--video", type=Path, metavar="FILE", help=f"write a video ({VIDEO} where there is no screen)")
    shown.add_argument("--window", action="store_true", help="show it live (the default where there is a screen)")
    args = parser.parse_args(arguments)
    try:
        return _run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    from lingbot_client import ClientError, Needs, PolicyClient
    from model.simulation.scene import CAMERAS, NAMES
    from model.simulation.screens import open_screen

    if args.episodes < 1 or (args.execute_steps is not None and args.execute_steps < 1):
        raise UserError("--episodes and --execute-steps must be 1 or more")
    if args.key_file is not None and not args.key_file.is_file():
        raise UserError(f"--key-file {args.key_file} is not a file: give one that holds the endpoint's key")
    key = args.key_file.read_text(encoding="utf-8").strip() if args.key_file is not None else ""
    video = None if args.window or (args.video is None and has_screen()) else args.video or VIDEO
    needs = Needs(cameras=CAMERAS, state=NAMES, action=NAMES)
    try:
        with PolicyClient(args.server, needs=needs, key=key) as client:
            task = choose_task(args.task, client.contract["tasks"])
            with make_simulation(client, task) as simulation, open_screen(simulation, video) as screen:
                for seed in range(args.seed, args.seed + args.episodes):
                    print(
                        play(client, simulation, seed=seed, execute_steps=args.execute_steps, screen=screen).sentence()
                    )
    except (ClientError, ValueError) as error:
        raise UserError(str(error)) from error
    if video is not None:
        print(f"video: {video}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
