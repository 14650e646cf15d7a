"""Record demonstrations of a scripted expert in simulation, as a LeRobot v3.0 dataset with depth."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from components.collect.recording import Recording, cores, record, watch_parent
from model.errors import UserError, unknown_name
from model.progress import Progress

NAME = "collect"
INPUTS: tuple[str, ...] = ()
ROBOTS = ("aloha_sim",)
FIRST_SEED = 1_000_000
"""Evaluation draws its scenes from the seeds below; no demonstration shows one of those."""
SEEDS_A_COLLECTION = 1_000_000
SCRATCH = ".scratch"
EPISODES_A_WORKER = 4  # fewer are not worth another process, whose start takes as long as two
COLLECTION_FILE = "meta/collection.json"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What to record.

    Args:
        robot: the simulated robot.
        tasks: episodes alternate over these, in this order.
        episodes: demonstrations to record.
        fps: frames and actions a second, a divisor of the controller's 50 Hz.
        image_size: side of the square images, pixels, even.
        depth: also record metric depth of each view.
        action_noise: standard deviation in radians of the noise added to executed joint targets. The recorded action
            is the expert's, without it: the dataset shows how to come back from where noise led.
        seed: another collection, with other scenes.
        held_out: also record tasks that are held out of training; without it, naming one is an error.
    """

    robot: str = "aloha_sim"
    tasks: tuple[str, ...] = ("lift_right", "lift_left")
    episodes: int = 240
    fps: int = 10
    image_size: int = 112
    depth: bool = True
    action_noise: float = 0.02
    seed: int = 0
    held_out: bool = False

    def __post_init__(self) -> None:
        from model.simulation.tasks import find_task

        object.__setattr__(self, "tasks", tuple(self.tasks))
        if self.robot not in ROBOTS:
            raise unknown_name("simulated robot", self.robot, ROBOTS)
        if not self.tasks:
            raise UserError("collect.tasks is empty: name at least one simulated task.")
        for task in self.tasks:
            if find_task(task).held_out and not self.held_out:
                raise UserError(
                    f"collect.tasks names {task}, which is held out of training so that its success is zero-shot: "
                    "leave it out, or set collect.held_out=true."
                )
        if not 1 <= self.episodes <= SEEDS_A_COLLECTION // 10:
            raise UserError(f"collect.episodes is {self.episodes}: choose 1 to {SEEDS_A_COLLECTION // 10}.")
        if self.fps < 1 or 50 % self.fps:
            raise UserError(f"collect.fps is {self.fps}: choose a divisor of the controller's 50 Hz (5, 10, 25 or 50).")
        if not 32 <= self.image_size <= 512 or self.image_size % 2:
            raise UserError(f"collect.image_size is {self.image_size}: choose an even number of pixels from 32 to 512.")
        if not 0 <= self.action_noise <= 0.2:
            raise UserError(f"collect.action_noise is {self.action_noise}: choose 0 to 0.2 radians.")
        if not 0 <= self.seed <= 1000:
            raise UserError(f"collect.seed is {self.seed}: choose 0 to 1000.")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Record `parameters.episodes` successful demonstrations into the folder `output`.

    Episodes that a killed attempt finished are not recorded again. The bytes do not depend on the number of workers.

    Returns:
        Summary: episodes, frames, hours, tasks, failed attempts by task.

    Raises:
        UserError: no EGL, or gym-aloha is not installed.
    """
    scratch = output / SCRATCH
    recordings = plan(parameters, scratch)
    started = time.monotonic()
    finished = sum(recording.done for recording in recordings)
    missing = [recording for recording in recordings if not recording.done]
    workers = max(1, min(cores(), -(-len(missing) // EPISODES_A_WORKER)))
    progress.message(
        f"recording {len(missing)} episodes {'in this process' if workers == 1 else f'with {workers} workers'}"
        + (f", {finished} are there from before" if finished else "")
    )
    for count in _record_all(missing, workers):
        rate = count / (time.monotonic() - started)
        progress.update(finished + count, len(recordings), episodes_per_second=rate)
    progress.message("joining the episodes into one dataset")
    facts = _join(recordings, output, parameters)
    shutil.rmtree(scratch)
    return facts


def plan(parameters: Parameters, scratch: Path) -> list[Recording]:
    """What to record: a pure function of the parameters, whoever records it and when."""
    from model.simulation.tasks import TASKS

    first = FIRST_SEED + parameters.seed * SEEDS_A_COLLECTION
    return [
        Recording(
            folder=scratch / f"{index:06d}",
            task=(task := parameters.tasks[index % len(parameters.tasks)]),
            instruction=TASKS[task].instruction,
            # A failed demonstration is replaced by a scene that no other episode uses.
            seeds=tuple(range(first + index, first + 10 * parameters.episodes, parameters.episodes)),
            fps=parameters.fps,
            image_size=parameters.image_size,
            depth=parameters.depth,
            action_noise=parameters.action_noise,
        )
        for index in range(parameters.episodes)
    ]


def _record_all(recordings: list[Recording], workers: int) -> Iterator[int]:
    """Records all of them, yielding how many are done. One worker is this process."""
    if workers == 1:
        for count, recording in enumerate(recordings, 1):
            record(recording)
            yield count
        return
    if not recordings:
        return
    # spawn: an OpenGL context does not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=watch_parent) as pool:
        futures = [pool.submit(record, recording) for recording in recordings]
        try:
            for count, future in enumerate(as_completed(futures), 1):
                future.result()
                yield count
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _join(recordings: list[Recording], output: Path, parameters: Parameters) -> dict[str, Any]:
    from model.data.lerobot_staging import StagedEpisode
    from model.data.lerobot_writer import LeRobotWriter
    from model.simulation.scene import CAMERAS, NAMES

    for leftover in output.iterdir():
        if leftover.name != SCRATCH:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    size = (parameters.image_size, parameters.image_size)
    writer = LeRobotWriter(
        output,
        fps=parameters.fps,
        robot_type=parameters.robot,
        state_names=NAMES,
        action_names=NAMES,
        cameras=dict.fromkeys(CAMERAS, size),
        depth=parameters.depth,
    )
    frames = 0
    failed = dict.fromkeys(parameters.tasks, 0)
    rows = []
    for recording in recordings:
        episode = StagedEpisode.open(recording.folder)
        writer.add_staged(episode)
        outcome = recording.outcome()
        frames += episode.length
        failed[recording.task] += outcome["failed"]
        rows.append({"task": recording.task, "seed": outcome["seed"], "failed_attempts": outcome["failed"]})
    writer.finish()
    path = output / COLLECTION_FILE
    path.write_text(json.dumps({"schema_version": 1, "action_noise": parameters.action_noise, "episodes": rows}) + "\n")
    return {
        "episodes": len(recordings),
        "frames": frames,
        "hours": round(frames / parameters.fps / 3600, 4),
        "tasks": list(dict.fromkeys(parameters.tasks)),
        "failed_attempts": failed,
        "depth": parameters.depth,
    }
