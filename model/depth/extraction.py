"""Running the teacher over a dataset: in which shards, in several processes.

A shard is the work of one process with one thread, its batches are cut the same way every time, so the bytes of a store
depend on neither the number of processes nor on who finished first.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.depth.codec import PCA_COMPONENTS
from model.depth.finish import BASIS
from model.depth.frames import FrameReader, Views
from model.depth.pca import Basis, fit_basis, read_basis
from model.depth.sources import SENSOR, DepthSource, load_depth_source
from model.depth.teacher import Preprocessing, Teacher, load_teacher
from model.depth.writer import ShardWriter, StoreLayout, finished_shard
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

POLL = 0.5  # seconds between looks at what the workers have done
MAX_BATCH = 32  # frames read at once: memory, not speed
MAX_VIEWS = 32  # views at once; more gains nothing on a CPU (16: 4.1 ms each, 32: 4.3, 96: 4.9)


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """What a worker needs to load the teacher and the source of its depth.

    Attributes:
        depth_source: resolved, so not 'auto'.
        simulator: that rendered the depth, for 'simulation'.
        depth_model: folder of the depth model, for 'monocular'.
    """

    name: str
    checkpoint: str
    seed: int
    depth_source: str = SENSOR
    simulator: str | None = None
    depth_model: str = ""

    def load(self) -> Teacher:
        return load_teacher(self.name, self.checkpoint, self.seed)

    def load_depth(self) -> DepthSource:
        return load_depth_source(self.depth_source, simulator=self.simulator, model=self.depth_model)


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


def extract(
    dataset: "LeRobotDataset",
    source: TeacherSource,
    jobs: Sequence[ShardJob],
    workers: int,
    progress: Progress,
    *,
    loaded: tuple[Teacher, DepthSource],
) -> None:
    """Makes the shards that are not done yet, in `workers` processes (in this one, with what is loaded, when 1).

    Raises:
        UserError: a frame cannot be read, depth is not in metres, or the teacher gives numbers that are not finite.
    """
    open_jobs = [job for job in jobs if not job.done]
    total = sum(job.rows for job in jobs)
    done = total - sum(job.rows for job in open_jobs)
    if done:
        progress.message(f"{done} of {total} frames were extracted by an earlier attempt")
    workers = min(workers, len(open_jobs))
    meter = _Meter(progress, done, total)
    with ExitStack() as stack:
        if workers <= 1:
            stack.enter_context(_one_thread())
            for job in open_jobs:
                extract_shard(dataset, *loaded, job, meter.add)
        else:
            _in_processes(stack, dataset.root, source, open_jobs, workers, meter)


def extract_shard(
    dataset: "LeRobotDataset", teacher: Teacher, depth_source: DepthSource, job: ShardJob, count: Callable[[int], None]
) -> None:
    """Makes one shard, telling `count` how many rows each batch added."""
    with ShardWriter(store=job.store, layout=job.layout, first=job.first, last=job.last, rows=job.rows) as writer:
        for episode, length in job.episodes:
            reader = FrameReader(dataset, depth_source, job.preprocessing, job.views, job.layout.cameras)
            for frames, views in reader.batches(episode, np.arange(0, length, job.stride), MAX_BATCH):
                tokens = _tokens(teacher, job, views)
                writer.add(np.full(len(frames), episode), frames, tokens, views.mask, views.digest)
                count(len(frames))
        writer.finish()


def sample_tokens(
    dataset: "LeRobotDataset", teacher: Teacher, depth_source: DepthSource, jobs: Sequence[ShardJob], frames: int
) -> np.ndarray:
    """float32 [n, C]: tokens of frames evenly spread over those of `jobs`, to fit a basis on."""
    rows = [
        (job, episode, frame)
        for job in jobs
        for episode, length in job.episodes
        for frame in range(0, length, job.stride)
    ]
    chosen: dict[tuple[int, int], tuple[ShardJob, list[int]]] = {}
    for place in np.unique(np.linspace(0, len(rows) - 1, min(frames, len(rows)), dtype=np.int64)).tolist():
        job, episode, frame = rows[place]
        chosen.setdefault((job.first, episode), (job, []))[1].append(frame)
    parts = []
    with _one_thread():
        for (_, episode), (job, wanted) in chosen.items():
            reader = FrameReader(dataset, depth_source, job.preprocessing, job.views, job.layout.cameras)
            for _, views in reader.batches(episode, np.array(wanted), MAX_BATCH):
                parts.append(_tokens(teacher, job, views)[views.mask].reshape(-1, teacher.channels))
    return np.concatenate(parts)


def fitted_basis(
    store: Path,
    dataset: "LeRobotDataset",
    loaded: tuple[Teacher, DepthSource],
    jobs: Sequence[ShardJob],
    frames: int,
    progress: Progress,
) -> Basis:
    """Basis of pca128-int8 for the shards of `jobs`, kept in the store: a killed attempt goes on with the same one.

    Raises:
        UserError: too few channels or tokens.
    """
    layout = jobs[0].layout
    fitted_on: dict[str, str | int] = {
        "weights_digest": layout.weights_digest,
        "preprocessing_digest": layout.preprocessing_digest,
        "frames": frames,
        "rows": sum(job.rows for job in jobs),
    }
    if (store / BASIS).is_file():
        basis, earlier = read_basis(store / BASIS)
        if earlier == fitted_on:
            return basis
    basis = fit_basis(sample_tokens(dataset, *loaded, jobs, frames), PCA_COMPONENTS)
    progress.message(
        f"{PCA_COMPONENTS} principal components hold {basis.explained:.2%} of the variance of the tokens they were "
        "fitted on"
    )
    basis.save(store / BASIS, fitted_on)
    return basis


def _tokens(teacher: Teacher, job: ShardJob, views: Views) -> np.ndarray:
    """Tokens [B, V, N, C] of a batch; zeros where masked. Frames that are equal to the last byte go through once."""
    layout = job.layout
    tokens = np.zeros((*views.mask.shape, layout.tokens_per_view, layout.channels), np.float32)
    first: dict[bytes, tuple[int, int]] = {}
    same = {(item, view): first.setdefault(bytes(views.digest[item, view]), (item, view))
            for item, view in np.argwhere(views.mask).tolist()}  # fmt: skip
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for item, view in first.values():  # cameras may differ in size
        groups.setdefault(views.images[view][item].shape, []).append((item, view))
    for places in groups.values():
        places.sort(key=lambda place: (place[1], place[0]))
        for start in range(0, len(places), MAX_VIEWS):
            part = places[start : start + MAX_VIEWS]
            images = np.stack([views.images[view][item] for item, view in part])
            depth = np.stack([views.depth[view][item] for item, view in part])
            for place, found in zip(part, teacher.tokens(images, depth, job.preprocessing), strict=True):
                tokens[place] = found
    for place, source in same.items():
        if place != source:
            tokens[place] = tokens[source]
    return tokens


class _Meter:
    """Progress of this attempt: frames a second and seconds left."""

    def __init__(self, progress: Progress, done: int, total: int) -> None:
        self._progress, self._before, self._total = progress, done, total
        self._fresh, self._began = 0, time.perf_counter()

    def add(self, frames: int) -> None:
        self._fresh += frames
        if not frames:
            return
        rate = self._fresh / max(time.perf_counter() - self._began, 1e-9)
        done = self._before + self._fresh
        left = (self._total - done) / rate
        self._progress.update(done, self._total, frames_per_second=rate, seconds_left=left)


def _in_processes(
    stack: ExitStack, root: str, source: TeacherSource, jobs: Sequence[ShardJob], workers: int, meter: _Meter
) -> None:
    """Makes the shards in `workers` processes. Spawned: the threads of torch and of the decoders survive no fork."""
    context = get_context("spawn")
    counted = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(root, source, counted))
    stack.callback(pool.shutdown, cancel_futures=True)
    waiting = {pool.submit(_extract_in_worker, job) for job in jobs}
    seen = 0
    while waiting:
        finished, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in finished:
            future.result()
        now = counted.value
        meter.add(now - seen)
        seen = now


_worker: dict[str, Any] = {}  # a worker process opens dataset, teacher and depth source once


def _start_worker(root: str, source: TeacherSource, counted: Any) -> None:
    import torch

    from model.data.lerobot import LeRobotDataset

    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    torch.set_num_threads(1)
    _worker.update(
        dataset=LeRobotDataset.open(root), teacher=source.load(), depth_source=source.load_depth(), counted=counted
    )


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers: they would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _extract_in_worker(job: ShardJob) -> None:
    extract_shard(_worker["dataset"], _worker["teacher"], _worker["depth_source"], job, _count)


def _count(frames: int) -> None:
    counted = _worker["counted"]
    with counted.get_lock():
        counted.value += frames


class _one_thread:
    """One torch thread inside, so that this process computes the same bytes as a worker would."""

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        import torch

        torch.set_num_threads(self.before)
