"""Packing a LeRobot dataset into training-size frames, Arrow tables and statistics.

Episodes are encoded in parallel, each into a scratch file of its own that is complete when its sizes are written; then
the parent joins them in the order of the dataset. So the bytes do not depend on the number of workers, and a killed
attempt goes on where it stopped. The scratch needs as much disk again as the frames, until the end.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.data.normalization import StatisticsAccumulator
from model.data.packed_format import (
    HOLDOUT,
    SCHEMA_VERSION,
    STATISTICS,
    STEPS,
    TRAIN,
    PackedMeta,
    write_json,
)
from model.data.packing_frames import EpisodeFrames, encode_episodes, join_episodes
from model.data.packing_tables import Segment, write_steps
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import EpisodeArrays, LeRobotDataset
    from model.robots import Robot

SCRATCH = ".scratch"
IMAGES_WORTH_A_PROCESS = 1500  # about as much work as starting one, 1 to 2 s


@dataclass(frozen=True, kw_only=True)
class PackingSettings:
    """How to pack.

    Attributes:
        image_size: pixels of the square training frames.
        rate: packed frames a second at most; every round(fps / rate)-th frame of an episode is packed. States and
            actions always keep the dataset's own rate.
        jpeg_quality: of the packed frames, 4:4:4.
        holdout_fraction: of the episodes, kept out of training and of the statistics.
        seed: of the holdout split.
    """

    image_size: int = 112
    rate: float = 10.0
    jpeg_quality: int = 95
    holdout_fraction: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 16 <= self.image_size <= 2048:
            raise UserError(f"image_size is {self.image_size}: it must be 16 to 2048 pixels.")
        if not self.rate > 0:
            raise UserError(f"rate is {self.rate}: it must be above 0 frames a second.")
        if not 1 <= self.jpeg_quality <= 100:
            raise UserError(f"jpeg_quality is {self.jpeg_quality}: it must be 1 to 100.")
        if not 0 <= self.holdout_fraction < 1:
            raise UserError(f"holdout_fraction is {self.holdout_fraction}: it must lie in [0, 1).")


def pack(
    dataset: "LeRobotDataset",
    robot: "Robot",
    output: Path,
    settings: PackingSettings,
    *,
    quarantined: frozenset[int],
    segments: Mapping[int, Sequence[Segment]],
    progress: Progress,
    workers: int | None = None,
) -> PackedMeta:
    """Write the packed folder `output` (see packed_format).

    Args:
        dataset: the opened dataset.
        robot: whose cameras and grippers the dataset has.
        output: an existing folder; scratch of an earlier attempt with equal settings is used.
        settings: sizes, rate and split.
        quarantined: episodes to leave out.
        segments: annotated segments by episode; episodes without any have no sub-task.
        progress: told frames done and frames a second.
        workers: processes; None takes the cores this process may use, where the work is worth it. 1 works in this one.

    Raises:
        UserError: nothing usable, wrong cameras, an episode that cannot be read, or no disk space.
    """
    episodes = [episode.index for episode in dataset.episodes if episode.index not in quarantined]
    if not episodes:
        raise UserError(
            f"{dataset.root}: all {len(dataset.episodes)} episodes are quarantined, nothing is left to pack; "
            "see quarantine.yaml of the verdict for the reasons."
        )
    cameras = choose_cameras(dataset, robot)
    arrays = {episode: dataset.arrays(episode) for episode in episodes}
    _check_shapes(dataset, robot, arrays)
    split = split_episodes(episodes, settings.holdout_fraction, settings.seed)
    stride = max(1, round(dataset.info.fps / settings.rate))
    tasks = tuple(sorted({entry.task for entry in arrays.values()}))
    sub_tasks = tuple(sorted({part.sub_task for episode in episodes for part in segments.get(episode, ())} - {""}))
    try:
        with _scratch(output, settings, cameras) as scratch:
            jobs = [
                EpisodeFrames(
                    episode=episode,
                    length=len(entry.state),
                    stride=stride,
                    cameras=tuple(cameras.values()),
                    image_size=settings.image_size,
                    jpeg_quality=settings.jpeg_quality,
                    path=str(scratch / f"episode-{episode:06d}.bin"),
                )
                for episode, entry in arrays.items()
            ]
            images = sum(len(job.indices) for job in jobs) * sum(camera is not None for camera in cameras.values())
            useful = min(len(os.sched_getaffinity(0)), max(1, images // IMAGES_WORTH_A_PROCESS))
            encode_episodes(dataset, jobs, useful if workers is None else workers, progress)
            progress.message("joining the frames, writing tables and statistics")
            files = join_episodes(jobs, scratch, output)
        has_goal = write_steps(
            output / STEPS, arrays, robot=robot, split=split, tasks=tasks, sub_tasks=sub_tasks, segments=segments
        )
        _write_statistics(output / STATISTICS, arrays, split)
        held_out = sum(name == HOLDOUT for name in split.values())
        meta = PackedMeta(
            schema_version=SCHEMA_VERSION,
            robot=robot.id,
            robot_type=dataset.info.robot_type,
            cameras=tuple(cameras),
            image_size=settings.image_size,
            jpeg_quality=settings.jpeg_quality,
            fps=float(dataset.info.fps),
            rate=dataset.info.fps / stride,
            stride=stride,
            seed=settings.seed,
            tasks=tasks,
            sub_tasks=sub_tasks,
            state_names=tuple(robot.state_names),
            action_names=tuple(robot.action_names),
            has_goal=has_goal,
            files=files,
            counts={
                "episodes": len(episodes),
                "train_episodes": len(episodes) - held_out,
                "holdout_episodes": held_out,
                "quarantined": len(dataset.episodes) - len(episodes),
                "steps": sum(job.length for job in jobs),
                "frames": sum(len(job.indices) for job in jobs),
            },
        )
        meta.save(output)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"{output}: the disk is full; free some space and run again, it goes on from here."
            ) from error
        raise
    return meta


def choose_cameras(dataset: "LeRobotDataset", robot: "Robot") -> dict[str, str | None]:
    """The robot's cameras in the policy's order, each with its key in the dataset or None where the dataset lacks it.

    Raises:
        UserError: the dataset has none of them.
    """
    from model.robots import ROLES

    # the declared ones: a declared camera without video is an error of its episodes, not an absent view
    present = {camera.removeprefix("observation.images."): camera for camera in dataset.info.cameras}
    cameras = {robot.cameras[role]: present.get(robot.cameras[role]) for role in ROLES if role in robot.cameras}
    if not any(cameras.values()):
        raise UserError(
            f"{dataset.root}: its cameras are {', '.join(present) or 'none'}, robot '{robot.id}' needs one of "
            f"{', '.join(cameras) or 'none'}; name the dataset's cameras in the robot's YAML."
        )
    return cameras


def split_episodes(episodes: Sequence[int], fraction: float, seed: int) -> dict[int, str]:
    """`train` or `holdout` for each episode, by the hash of (seed, episode) alone: other episodes do not matter.

    Where the hashes would leave a side empty that should not be, the nearest episode changes sides.
    """
    draws = {
        episode: int.from_bytes(hashlib.sha256(f"{seed}:{episode}".encode()).digest()[:8], "big") / 2**64
        for episode in episodes
    }
    threshold = fraction
    if fraction > 0 and len(draws) > 1:
        ordered = sorted(draws.values())
        threshold = min(max(fraction, np.nextafter(ordered[0], 1)), ordered[-1])
    return {episode: HOLDOUT if draw < threshold else TRAIN for episode, draw in draws.items()}


@contextmanager
def _scratch(output: Path, settings: PackingSettings, cameras: Mapping[str, str | None]) -> Iterator[Path]:
    """The scratch folder of these settings: another attempt's goes, ours stays when something fails."""
    key = hashlib.sha256(json.dumps([SCHEMA_VERSION, asdict(settings), cameras]).encode()).hexdigest()[:16]
    folder = output / SCRATCH / f"pack-{key}"
    if folder.parent.is_dir() and not folder.is_dir():
        shutil.rmtree(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder.parent)


def _check_shapes(dataset: "LeRobotDataset", robot: "Robot", arrays: Mapping[int, "EpisodeArrays"]) -> None:
    expected = len(robot.state_names), len(robot.action_names)
    for episode, entry in arrays.items():
        found = entry.state.shape[1], entry.action.shape[1]
        if found != expected:
            raise UserError(
                f"{dataset.root}: episode {episode} has {found[0]} state and {found[1]} action dimensions, robot "
                f"'{robot.id}' has {expected[0]} and {expected[1]}; leave the episode out or correct the robot's YAML."
            )
        if not len(entry.state):
            raise UserError(f"{dataset.root}: episode {episode} has no frames; leave it out in quarantine.yaml.")
        if not entry.task:
            raise UserError(f"{dataset.root}: episode {episode} has no task text; write it, or leave the episode out.")


def _write_statistics(path: Path, arrays: Mapping[int, "EpisodeArrays"], split: Mapping[int, str]) -> None:
    """Statistics of the training split alone: held-out episodes must not shape what they are to judge."""
    state, action = StatisticsAccumulator(), StatisticsAccumulator()
    for episode, entry in arrays.items():
        if split[episode] == TRAIN:
            state.add(entry.state)
            action.add(entry.action)
    write_json(path, {"state": state.result().to_json(), "action": action.result().to_json()})
