"""Running the teacher over a dataset: which frames, in which shards, in several processes.

A shard is the work of one process with one thread, its batches are cut the same way every time, so the bytes of a store
depend on neither the number of processes nor on who finished first.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.depth.config import MIN_DEPTH
from model.depth.teacher import Preprocessing, Teacher, load_teacher
from model.depth.writer import ShardWriter, StoreLayout, finished_shard
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

MAX_BATCH = 32  # frames of one camera at once; more gains nothing on a CPU (48 views: 4.7 ms each, 24: 4.9 ms)
FAR = 50.0  # metres; half of a scene beyond it is no robot's view (16-bit millimetres end at 65.5 m)


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """What a worker needs to load the teacher."""

    name: str
    checkpoint: str
    seed: int

    def load(self) -> Teacher:
        return load_teacher(self.name, self.checkpoint, self.seed)


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard to make.

    Attributes:
        first, last: episodes that its name covers.
        episodes: number and length of those that are extracted.
        stride: every so many frames.
        views: key of each camera in the dataset, None for one that has no depth there.
    """

    store: Path
    layout: StoreLayout
    preprocessing: Preprocessing
    first: int
    last: int
    episodes: tuple[tuple[int, int], ...]
    stride: int
    views: tuple[str | None, ...]

    @property
    def rows(self) -> int:
        return sum(len(range(0, length, self.stride)) for _, length in self.episodes)

    @property
    def done(self) -> bool:
        """An earlier attempt finished it."""
        return finished_shard(self.store, self.layout, self.first, self.last, self.rows) is not None


def plan_shards(
    dataset: "LeRobotDataset", quarantined: frozenset[int], rate: float, episodes_per_shard: int
) -> tuple[int, list[tuple[int, int, tuple[tuple[int, int], ...]]]]:
    """Stride, and (first, last, episodes with their lengths) of each shard that has any.

    The frames are those that packing takes: every round(fps / rate)-th.
    """
    stride = max(1, round(dataset.info.fps / rate))
    usable = {e.index: e.length for e in dataset.episodes if e.index not in quarantined and e.length > 0}
    shards: dict[int, list[tuple[int, int]]] = {}
    for episode, length in sorted(usable.items()):
        shards.setdefault(episode // episodes_per_shard, []).append((episode, length))
    return stride, [
        (number * episodes_per_shard, (number + 1) * episodes_per_shard - 1, tuple(episodes))
        for number, episodes in sorted(shards.items())
    ]


def extract(
    dataset: "LeRobotDataset", source: TeacherSource, jobs: Sequence[ShardJob], workers: int, progress: Progress
) -> None:
    """Makes the shards that are not done yet, in `workers` processes (in this one when 1).

    Raises:
        UserError: a frame cannot be read, depth is not in metres, or the teacher gives numbers that are not finite.
    """
    open_jobs = [job for job in jobs if not job.done]
    total = sum(job.rows for job in jobs)
    done = total - sum(job.rows for job in open_jobs)
    if done:
        progress.message(f"{done} of {total} frames were extracted by an earlier attempt")
    workers = min(workers, len(open_jobs))
    began, fresh = time.perf_counter(), 0
    with ExitStack() as stack:
        finished: Iterator[tuple[ShardJob, Callable[[], int]]]
        if workers <= 1:
            stack.enter_context(_one_thread())
            teacher = source.load()
            finished = ((job, partial(extract_shard, dataset, teacher, job)) for job in open_jobs)
        else:
            finished = _in_processes(stack, dataset.root, source, open_jobs, workers)
        for _, result in finished:
            fresh += result()
            rate = fresh / (time.perf_counter() - began)
            progress.update(done + fresh, total, frames_per_second=rate, seconds_left=(total - done - fresh) / rate)


def extract_shard(dataset: "LeRobotDataset", teacher: Teacher, job: ShardJob) -> int:
    """Makes one shard; gives its number of rows."""
    with ShardWriter(store=job.store, layout=job.layout, first=job.first, last=job.last, rows=job.rows) as writer:
        for episode, length in job.episodes:
            frames = np.arange(0, length, job.stride)
            streams = [_stream(dataset, episode, view, frames) for view in job.views]
            for batch in np.array_split(frames, -(-len(frames) // MAX_BATCH)):
                tokens, mask, digest = _batch(streams, teacher, job, episode, batch)
                writer.add(np.full(len(batch), episode), batch, tokens, mask, digest)
        writer.finish()
    return job.rows


def _stream(
    dataset: "LeRobotDataset", episode: int, view: str | None, frames: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]] | None:
    """Colour and depth of the frames of one view; None where this episode has no depth of it."""
    if view is None or dataset.episode(episode).depth.get(view) is None:
        return None
    indices = frames.tolist()
    return zip(dataset.frames(episode, view, indices), dataset.depth(episode, view, indices), strict=True)


def _batch(
    streams: Sequence[Iterator[tuple[np.ndarray, np.ndarray]] | None],
    teacher: Teacher,
    job: ShardJob,
    episode: int,
    frames: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens [B, V, N, C], mask [B, V] and digests [B, 32] of the next frames of an episode."""
    layout = job.layout
    tokens = np.zeros((len(frames), len(streams), layout.tokens_per_view, layout.channels), np.float32)
    mask = np.zeros((len(frames), len(streams)), bool)
    digests = [hashlib.sha256() for _ in frames]
    for view, stream in enumerate(streams):
        if stream is None:
            continue
        pairs = [next(stream) for _ in frames]
        images, depth = np.stack([image for image, _ in pairs]), np.stack([depth for _, depth in pairs])
        for digest, image, metres in zip(digests, images, depth, strict=True):
            digest.update(f"{layout.cameras[view]} {image.shape} {metres.shape}\n".encode())
            digest.update(image.data)
            digest.update(metres.data)
        mask[:, view] = check_depth(depth, f"episode {episode} frame {int(frames[0])}, camera '{layout.cameras[view]}'")
        tokens[:, view] = teacher.tokens(images, depth, job.preprocessing)
    return tokens, mask, np.stack([np.frombuffer(digest.digest(), np.uint8) for digest in digests])


def check_depth(depth: np.ndarray, where: str) -> np.ndarray:
    """Bool [B]: the frames of `depth` [B, H, W] that have a valid pixel. UserError when it cannot be metres."""
    valid = np.isfinite(depth) & (depth > MIN_DEPTH)
    count = int(valid.sum())
    if count and 2 * int((valid & (depth > FAR)).sum()) > count:
        raise UserError(
            f"depth of {where} has a median of {float(np.median(depth[valid])):.0f} m: it looks like millimetres where "
            "metres are expected; divide it by 1000 when recording"
        )
    return valid.any(axis=(1, 2))


def _in_processes(
    stack: ExitStack, root: str, source: TeacherSource, jobs: Sequence[ShardJob], workers: int
) -> Iterator[tuple[ShardJob, Callable[[], int]]]:
    """Jobs with their results as they finish. Spawned: the threads of torch and of the decoders survive no fork."""
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(root, source)
    )
    stack.callback(pool.shutdown, cancel_futures=True)
    futures: dict[Future[int], ShardJob] = {pool.submit(_extract_in_worker, job): job for job in jobs}
    for future in as_completed(futures):
        yield futures[future], future.result


_worker: dict[str, Any] = {}  # a worker process opens dataset and teacher once


def _start_worker(root: str, source: TeacherSource) -> None:
    import torch

    from model.data.lerobot import LeRobotDataset

    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    torch.set_num_threads(1)
    _worker["dataset"] = LeRobotDataset.open(root)
    _worker["teacher"] = source.load()


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers: they would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _extract_in_worker(job: ShardJob) -> int:
    return extract_shard(_worker["dataset"], _worker["teacher"], job)


class _one_thread:
    """One torch thread inside, so that this process computes the same bytes as a worker would."""

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_num_threads(self.before)
