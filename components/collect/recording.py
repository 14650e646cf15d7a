"""Recording one demonstration: the part of `collect` that runs in worker processes."""

import json
import multiprocessing
import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components import state

if TYPE_CHECKING:
    from model.simulation.environment import Simulation
    from model.simulation.expert import Expert

OUTCOME_FILE = "outcome.json"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One demonstration to record into `folder`. `seeds` are scenes to try in order until the expert succeeds."""

    folder: Path
    task: str
    instruction: str
    seeds: tuple[int, ...]
    fps: int
    image_size: int
    depth: bool
    action_noise: float

    @property
    def done(self) -> bool:
        """It was recorded, all of it."""
        return self._outcome_path.exists() and self.folder.exists()

    def outcome(self) -> dict[str, int]:
        """`seed` that was recorded and how many seeds `failed` before it."""
        return json.loads(self._outcome_path.read_text())

    def conclude(self, outcome: dict[str, int]) -> None:
        """Mark it as recorded: the last thing to do."""
        state.write_atomically(self._outcome_path, json.dumps(outcome).encode())

    @property
    def _outcome_path(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{OUTCOME_FILE}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def watch_parent() -> None:
    """In a worker: end with the parent, however it ends. Otherwise a killed step would leave workers behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def record(recording: Recording) -> None:
    """Record one demonstration and stage it.

    Raises:
        RuntimeError: the expert failed on every seed: a fault of the expert or of the scene, not of the user.
    """
    for failed, seed in enumerate(recording.seeds):
        demonstration = demonstrate(recording, seed)
        if demonstration is not None:
            _stage(recording, demonstration)
            recording.conclude({"seed": seed, "failed": failed})
            return
    raise RuntimeError(f"the expert of '{recording.task}' failed on the scenes of seeds {recording.seeds}")


def demonstrate(recording: Recording, seed: int) -> list[dict[str, Any]] | None:
    """What the robot saw and was told at each frame, or None when the task was not solved.

    Noise moves the executed targets of the joints; the recorded action is clean. Frame i shows the moment at which
    action i is given.
    """
    simulation, expert = _scene(recording.task, recording.fps, recording.image_size, recording.depth)
    rng = np.random.default_rng((seed, 2))
    simulation.reset(seed)
    frames: list[dict[str, Any]] = []
    success = False
    for action in expert.plan(seed):
        frames.append({**simulation.observe(), "action": action})
        noise = rng.normal(0.0, recording.action_noise * simulation.task.noise_share, size=action.shape)
        noise[[6, 13]] = 0.0
        success = simulation.step(action + noise).success
    return frames if success else None


@lru_cache(maxsize=8)
def _scene(task: str, fps: int, image_size: int, depth: bool) -> "tuple[Simulation, Expert]":
    from model.simulation.environment import Simulation
    from model.simulation.expert import Expert

    return Simulation(task, image_size=image_size, fps=fps, render_depth=depth), Expert(task, fps=fps)


def _stage(recording: Recording, frames: list[dict[str, Any]]) -> None:
    from model.data.lerobot_layout import IMAGE_PREFIX
    from model.data.lerobot_staging import stage_episode
    from model.data.lerobot_writer import ACTION, EEF_POSE, STATE

    def views(kind: str) -> dict[str, np.ndarray]:
        return {f"{IMAGE_PREFIX}{name}": np.stack([frame[kind][name] for frame in frames]) for name in frames[0][kind]}

    stage_episode(
        recording.folder,
        fps=recording.fps,
        task=recording.instruction,
        columns={
            STATE: np.stack([frame["state"] for frame in frames]),
            ACTION: np.stack([frame["action"] for frame in frames]),
            EEF_POSE: np.stack([frame["eef_pose"] for frame in frames]),
        },
        images=views("images"),
        depth=views("depth") if recording.depth else None,
    )
