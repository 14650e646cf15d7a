"""Packing, the images: episodes encoded in parallel processes, then joined in order.

An episode's images go to a file of their own, and their sizes and checksums to another that is renamed into place
last: where that lies and the sizes add up, the episode is done.
"""

import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.bad_samples import SampleError
from model.data.frame_codecs import Encoder, frame_codec
from model.data.packed_format import FRAMES, shard_name, write_arrow
from model.data.transforms import ResizeImage
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

SHARD_BYTES = 2**28  # a few large files: stores move ten thousand small ones far slower


@dataclass(frozen=True, kw_only=True)
class EpisodeFrames:
    """What to encode of one episode: every `stride`-th of `length` frames, of each camera (None: absent), to `path`."""

    episode: int
    length: int
    stride: int
    cameras: tuple[str | None, ...]
    image_size: int
    codec: str
    jpeg_quality: int
    video_crf: int
    path: str

    @property
    def indices(self) -> range:
        """The packed frames."""
        return range(0, self.length, self.stride)

    @property
    def places_path(self) -> Path:
        """Where sizes and checksums of the images lie once the episode is done."""
        return Path(self.path).with_suffix(".npy")

    @property
    def done(self) -> bool:
        """An earlier attempt encoded it, and its bytes are all there."""
        if not (self.places_path.is_file() and os.path.isfile(self.path)):
            return False
        return int(self.places()[0].sum()) == os.path.getsize(self.path)

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes int32 [frames, views] of the images in `path`, 0 for an absent view, and CRC-32 uint32 of each."""
        sizes, checksums = np.load(self.places_path)
        return sizes.astype(np.int32), checksums


def encode_episode(dataset: "LeRobotDataset", job: EpisodeFrames) -> int:
    """Encode one episode's images, frame by frame and view by view; returns how many.

    Raises:
        SampleError: a frame is missing or cannot be read, with its episode, frame and camera.
    """
    codec = frame_codec(job.codec, jpeg_quality=job.jpeg_quality, video_crf=job.video_crf)
    encoders: list[Encoder] = [codec.encoder(job.image_size) for _ in job.cameras]
    resize = ResizeImage(job.image_size)
    places = np.zeros((2, len(job.indices), len(job.cameras)), np.uint32)
    streams: list[Iterator[np.ndarray] | None] = [
        None if camera is None else iter(dataset.frames(job.episode, camera, job.indices)) for camera in job.cameras
    ]
    with open(job.path, "wb") as file:
        for row, frame in enumerate(job.indices):
            for view, stream in enumerate(streams):
                if stream is None:
                    continue
                image = next(stream, None)
                if image is None:
                    camera = str(job.cameras[view])
                    raise SampleError(
                        f"{dataset.root}: episode {job.episode}, camera '{camera}': frame {frame} is missing, the "
                        f"table has {job.length}; restore the video, or leave the episode out.",
                        job.episode,
                        frame,
                        camera,
                    )
                data = encoders[view](resize(image))
                file.write(data)
                places[:, row, view] = len(data), zlib.crc32(data)
    partial_path = Path(job.path).with_suffix(".npy.part")
    with partial_path.open("wb") as target:
        np.save(target, places)
    os.replace(partial_path, job.places_path)
    return int((places[0] > 0).sum())


def encode_episodes(
    dataset: "LeRobotDataset",
    jobs: Sequence[EpisodeFrames],
    workers: int,
    progress: Progress,
    unreadable: Callable[[SampleError], None],
) -> None:
    """Encode every episode that is not done yet, in `workers` processes (in this one when 1).

    `unreadable` is told of each episode that cannot be read; it raises when that is one too many.
    """
    open_jobs = [job for job in jobs if not job.done]
    total = sum(len(job.indices) for job in jobs)
    done = total - sum(len(job.indices) for job in open_jobs)
    if done:
        progress.message(f"{len(jobs) - len(open_jobs)} of {len(jobs)} episodes were packed by an earlier attempt")
    began, images = time.perf_counter(), 0
    with ExitStack() as stack:
        finished: Iterator[tuple[EpisodeFrames, Callable[[], int]]]
        if min(workers, len(open_jobs)) <= 1:
            finished = ((job, partial(encode_episode, dataset, job)) for job in open_jobs)
        else:
            finished = _in_processes(stack, dataset.root, open_jobs, min(workers, len(open_jobs)))
        for job, result in finished:
            try:
                images += result()
            except SampleError as error:
                unreadable(error)
            done += len(job.indices)
            progress.update(done, total, frames_per_second=images / (time.perf_counter() - began))


def _in_processes(
    stack: ExitStack, root: str, jobs: Sequence[EpisodeFrames], workers: int
) -> Iterator[tuple[EpisodeFrames, Callable[[], int]]]:
    """Jobs with their results, as they finish. Processes are spawned: video decoders' threads do not survive a fork."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(root,))
    stack.callback(pool.shutdown, cancel_futures=True)
    futures: dict[Future[int], EpisodeFrames] = {pool.submit(_encode_in_worker, job): job for job in jobs}
    for future in as_completed(futures):
        yield futures[future], future.result


_worker: dict[str, Any] = {}  # a worker process opens the dataset once


def _start_worker(root: str) -> None:
    from model.data.lerobot import LeRobotDataset

    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    _worker["dataset"] = LeRobotDataset.open(root)


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers: they would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode_in_worker(job: EpisodeFrames) -> int:
    return encode_episode(_worker["dataset"], job)


def join_episodes(jobs: Sequence[EpisodeFrames], scratch: Path, output: Path) -> tuple[str, ...]:
    """Join the encoded episodes into frames-NNNNN.bin, an episode never cut, and write frames.arrow.

    Returns:
        the names of the files, in order.
    """
    for stale in output.glob("frames-*.bin"):
        stale.unlink()
    places = [job.places() for job in jobs]
    shards: list[list[int]] = [[]]
    filled = 0
    for place, (episode_sizes, _) in enumerate(places):
        total = int(episode_sizes.sum(dtype=np.int64))
        if filled and filled + total > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(place)
        filled += total
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("step", "episode", "frame", "file", "offset", "size", "crc")
    }
    step = 0
    for number, members in enumerate(shards):
        position = 0
        with (scratch / shard_name(number)).open("wb") as target:
            for place in members:
                job, (size, checksum) = jobs[place], places[place]
                with open(job.path, "rb") as source:
                    shutil.copyfileobj(source, target, 2**20)
                ends = position + np.cumsum(size, dtype=np.int64).reshape(size.shape)
                columns["step"].append(step + np.array(job.indices, np.int64))
                columns["episode"].append(np.full(len(size), job.episode, np.int64))
                columns["frame"].append(np.array(job.indices, np.int64))
                columns["file"].append(np.full(size.shape, number, np.int32))
                columns["offset"].append(ends - size)
                columns["size"].append(size)
                columns["crc"].append(checksum)
                position, step = int(ends[-1, -1]), step + job.length
        os.replace(scratch / shard_name(number), output / shard_name(number))
    write_arrow(output / FRAMES, {name: np.concatenate(blocks) for name, blocks in columns.items()})
    return tuple(shard_name(number) for number in range(len(shards)))
