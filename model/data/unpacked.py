"""Training without packing: whole episodes are decoded in order into a bounded pool, and batches are drawn from it.

A random frame of a video costs the frames from its key frame on (13 ms at 640x480, GOP 30); a frame decoded in order
costs 1 ms. So the pool holds decoded episodes, and `PoolSampler` draws a step's rows from those that are in the pool
at that step. Mixing is weaker than over the whole set: a batch sees the pool's episodes alone. Packing has neither
the cost nor the limit; this is for a first look, or for data too large to pack.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from model.data.bad_samples import SampleError
from model.data.packing_plan import (
    LeftOut,
    PackingSettings,
    choose_cameras,
    packing_stride,
    read_arrays,
    split_episodes,
)
from model.data.packing_tables import Segment, list_texts, step_columns, training_statistics
from model.data.sampler import FrameSampler
from model.data.step_table import StepTable
from model.data.transforms import ResizeImage
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset
    from model.robots import Robot

POOL_BYTES = 2**30  # 2,300 frames of three views at 224 px


class UnpackedDataset:
    """A LeRobot dataset with the batches of `PackedDataset`, decoded as they are needed.

    `batch` is right for any rows; it is fast for rows whose episodes are in the pool. The pool makes room by dropping
    the episode that was used least recently. It may be called from several threads, which decode beside each other.

    Args:
        dataset, robot, settings, quarantined, segments, progress: as for `packing.pack`; `codec` and its quality do not
            matter here.
        pool_bytes: of decoded images, at most, those that are being decoded included; one episode is always taken.

    Attributes:
        table: the steps, and which of them have images. All states and actions are held in memory.
        statistics: of the training split, by key ("state", "action").
        tasks: the instructions; a row's `task` is the number.
        decoded: episodes decoded so far, repeats counted.
    """

    def __init__(
        self,
        dataset: "LeRobotDataset",
        robot: "Robot",
        settings: PackingSettings,
        *,
        quarantined: frozenset[int],
        segments: Mapping[int, Sequence[Segment]],
        progress: Progress,
        pool_bytes: int = POOL_BYTES,
    ) -> None:
        self._dataset = dataset
        self._cameras = choose_cameras(dataset, robot)
        left_out = LeftOut(dataset.root, settings.unreadable_episodes, progress)
        arrays = read_arrays(dataset, robot, quarantined, left_out)
        split = split_episodes(tuple(arrays), settings.holdout_fraction, settings.seed)
        texts = list_texts(arrays, segments)
        self.tasks = texts.tasks
        steps = step_columns(arrays, robot=robot, split=split, texts=texts, segments=segments)
        self.stride = packing_stride(dataset.info.fps, settings.rate)
        self.table = StepTable(dataset.root, steps, np.flatnonzero(steps["frame"] % self.stride == 0))
        self.statistics = training_statistics(arrays, split)
        self._resize = ResizeImage(settings.image_size)
        self._pool_bytes = pool_bytes
        self._pool: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()
        self.decoded = 0

    @property
    def frames(self) -> dict[str, np.ndarray]:
        """Columns [N] of the frames: episode, frame, step, task, sub_task, split, progress (StepTable)."""
        return self.table.frames

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(V, H, W, 3)."""
        return len(self._cameras), self._resize.size, self._resize.size, 3

    @property
    def pool_frames(self) -> int:
        """How many frames of all views fit the pool."""
        return self._pool_bytes // int(np.prod(self.image_shape))

    def rows(self, split: str = "train", tasks: Sequence[int] | None = None) -> np.ndarray:
        """Numbers int64 of the frames of a split, and of the given tasks only if any are given."""
        return self.table.rows(split, tasks)

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        """As `PackedDataset.batch`. SampleError when a frame cannot be read."""
        rows = np.asarray(rows)
        images = np.zeros((len(rows), *self.image_shape), np.uint8)
        numbers = self.table.numbers(rows, horizon)
        for episode in dict.fromkeys(numbers["episode"].tolist()):
            own = numbers["episode"] == episode
            images[own] = self._episode(episode)[numbers["frame"][own] // self.stride]
        present = np.array([key is not None for key in self._cameras.values()])
        return {"images": images, "image_mask": np.broadcast_to(present, images.shape[:2]).copy()} | numbers

    def _episode(self, episode: int) -> np.ndarray:
        """uint8 [frames, V, H, W, 3] of one episode, from the pool or decoded into it."""
        with self._lock:
            found = self._pool.get(episode)
            if found is not None:
                self._pool.move_to_end(episode)
            else:
                room = self.pool_frames - self._length(episode)
                while self._pool and sum(map(self._length, self._pool)) > room:
                    self._pool.popitem(last=False)
                decoding: Future[np.ndarray] = Future()
                self._pool[episode] = decoding
                self.decoded += 1
        if found is not None:
            return found.result()
        try:
            decoding.set_result(self._decode(episode))
        except BaseException as error:
            decoding.set_exception(error)  # whoever waits for it; a later call tries again
            with self._lock:
                self._pool.pop(episode, None)
            raise
        return decoding.result()

    def _length(self, episode: int) -> int:
        """Frames that are decoded of an episode."""
        first, last = self.table.bounds[episode]
        return len(range(0, last - first, self.stride))

    def _decode(self, episode: int) -> np.ndarray:
        first, last = self.table.bounds[episode]
        indices = range(0, last - first, self.stride)
        images = np.zeros((len(indices), *self.image_shape), np.uint8)
        for view, key in enumerate(self._cameras.values()):
            if key is None:
                continue
            count = 0
            for count, image in enumerate(self._dataset.frames(episode, key, indices), 1):
                images[count - 1, view] = self._resize(image)
            if count < len(indices):
                raise SampleError(
                    f"{self._dataset.root}: episode {episode}, camera '{key}': frame {indices[count]} is missing, the "
                    f"table has {last - first}; restore the video, or leave the episode out.",
                    episode,
                    indices[count],
                    key,
                )
        return images


@dataclass(frozen=True, kw_only=True)
class PoolSampler:
    """A `FrameSampler` whose batch comes from the episodes that are in the pool at that step.

    The episodes come in an order shuffled anew each round. The pool begins with as many as fit beside one that is on
    its way in; then, every `steps_per_episode` steps, the first goes and the next come. All of it is a function of
    (seed, step): a resumed training decodes the pool of its step and goes on with the same batches.

    Attributes:
        sampler: what to draw, over all rows of the split.
        episodes: int64, the episode of each row of the sampler.
        pool_frames: that fit the pool (`UnpackedDataset.pool_frames`).
        steps_per_episode: steps between two exchanges, not fewer than the batches that are made ahead. Lower mixes
            faster and decodes more: a step costs 1 / steps_per_episode episodes.
    """

    sampler: FrameSampler
    episodes: np.ndarray
    pool_frames: int
    steps_per_episode: int = 4

    def __post_init__(self) -> None:
        if self.steps_per_episode < 1:
            raise UserError(f"steps_per_episode is {self.steps_per_episode}: it must be at least 1.")

    @property
    def seed(self) -> int:
        """The sampler's."""
        return self.sampler.seed

    def batch(self, step: int) -> np.ndarray:
        """Row numbers int64 [batch size] of one step."""
        return self.draw(step, self.sampler.batch_size, 0)

    def draw(self, step: int, count: int, before: int) -> np.ndarray:
        """Row numbers int64 [count] of one step, as `FrameSampler.draw`."""
        in_pool = np.isin(self._numbers, self.pool(step))
        chosen = in_pool[self._number_of_row]
        sampler = self.sampler
        return replace(
            sampler, rows=sampler.rows[chosen], early=sampler.early[chosen], tasks=sampler.tasks[chosen]
        ).draw(step, count, before)

    def pool(self, step: int) -> tuple[int, ...]:
        """The episodes in the pool at a step, oldest first: one at least, none twice."""
        chosen: dict[int, None] = {}
        room = self.pool_frames
        if room < self._counts.sum():  # not all fit, so they come and go: leave room for the longest to come
            room -= int(self._counts.max())
        place = step // self.steps_per_episode
        while len(chosen) < len(self._numbers):
            at = self._stream(place)
            place += 1
            episode = int(self._numbers[at])
            if episode in chosen:
                continue
            room -= int(self._counts[at])
            if chosen and room < 0:
                break
            chosen[episode] = None
        return tuple(chosen)

    @cached_property
    def _by_episode(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers, of_row, counts = np.unique(self.episodes, return_inverse=True, return_counts=True)
        return numbers, of_row, counts

    @property
    def _numbers(self) -> np.ndarray:
        return self._by_episode[0]

    @property
    def _number_of_row(self) -> np.ndarray:
        return self._by_episode[1]

    @property
    def _counts(self) -> np.ndarray:
        return self._by_episode[2]

    def _stream(self, place: int) -> int:
        """Which episode, by its place in `_numbers`, comes at a place of the endless order."""
        around, at = divmod(place, len(self._numbers))
        random = np.random.Generator(np.random.Philox(key=[self.seed, 2**32 + around]))
        return int(random.permutation(len(self._numbers))[at])
