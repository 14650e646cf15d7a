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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from model.data.packed_format import (
    HOLDOUT,
    SCHEMA_VERSION,
    STATISTICS,
    STEPS,
    PackedMeta,
    write_arrow,
    write_json,
)
from model.data.packing_frames import EpisodeFrames, encode_episodes, join_episodes
from model.data.packing_plan import (
    LeftOut,
    PackingSettings,
    choose_cameras,
    packing_stride,
    read_arrays,
    split_episodes,
)
from model.data.packing_tables import Segment, list_texts, step_columns, training_statistics
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset
    from model.robots import Robot

SCRATCH = ".scratch"
IMAGES_WORTH_A_PROCESS = 1500  # about as much work as starting one, 1 to 2 s


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
    left_out = LeftOut(dataset.root, settings.unreadable_episodes, progress)
    cameras = choose_cameras(dataset, robot)
    arrays = read_arrays(dataset, robot, quarantined, left_out)
    stride = packing_stride(dataset.info.fps, settings.rate)
    try:
        with _scratch(output, settings, cameras) as scratch:
            jobs = [
                EpisodeFrames(
                    episode=episode,
                    length=len(entry.state),
                    stride=stride,
                    cameras=tuple(cameras.values()),
                    image_size=settings.image_size,
                    codec=settings.codec,
                    jpeg_quality=settings.jpeg_quality,
                    video_crf=settings.video_crf,
                    path=str(scratch / f"episode-{episode:06d}.bin"),
                )
                for episode, entry in arrays.items()
            ]
            images = sum(len(job.indices) for job in jobs) * sum(camera is not None for camera in cameras.values())
            useful = min(len(os.sched_getaffinity(0)), max(1, images // IMAGES_WORTH_A_PROCESS))
            encode_episodes(dataset, jobs, useful if workers is None else workers, progress, left_out.add)
            jobs = [job for job in jobs if job.episode not in left_out.reasons]
            arrays = {job.episode: arrays[job.episode] for job in jobs}
            if not jobs:
                raise UserError(f"{dataset.root}: no episode can be read; restore the dataset.")
            progress.message("joining the frames, writing tables and statistics")
            files = join_episodes(jobs, scratch, output)
            split = split_episodes(tuple(arrays), settings.holdout_fraction, settings.seed)
            texts = list_texts(arrays, segments)
            columns = step_columns(arrays, robot=robot, split=split, texts=texts, segments=segments)
            write_arrow(output / STEPS, columns)
            statistics = training_statistics(arrays, split)
            write_json(output / STATISTICS, {key: value.to_json() for key, value in statistics.items()})
            held_out = sum(name == HOLDOUT for name in split.values())
            meta = PackedMeta(
                schema_version=SCHEMA_VERSION,
                robot=robot.id,
                robot_type=dataset.info.robot_type,
                cameras=tuple(cameras),
                image_size=settings.image_size,
                codec=settings.codec,
                jpeg_quality=settings.jpeg_quality,
                video_crf=settings.video_crf,
                fps=float(dataset.info.fps),
                rate=dataset.info.fps / stride,
                stride=stride,
                seed=settings.seed,
                tasks=texts.tasks,
                sub_tasks=texts.sub_tasks,
                task_texts=texts.task_texts,
                state_names=tuple(robot.state_names),
                action_names=tuple(robot.action_names),
                has_goal=bool(columns["goal_mask"].any()),
                files=files,
                left_out=tuple(
                    {"episode": episode, "reason": reason} for episode, reason in sorted(left_out.reasons.items())
                ),
                counts={
                    "episodes": len(jobs),
                    "train_episodes": len(jobs) - held_out,
                    "holdout_episodes": held_out,
                    "quarantined": sum(episode.index in quarantined for episode in dataset.episodes),
                    "left_out": len(left_out.reasons),
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
