"""Measures the loader of training batches: packed shards in each codec beside random access into the videos.

Everything is measured in one process after another on the same recording, with the same rows, the same number of
threads and uint8 out at the same size. CPU seconds tell what it costs on a busy machine; wall seconds what an idle one
gives.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.benchmark.recording import GOP, HEIGHT, WIDTH, Recording, write_recording
from model.data.frame_codecs import CODECS
from model.data.lerobot import LeRobotDataset
from model.data.loader import Frames, Loader
from model.data.packed import PackedDataset
from model.data.packing import pack
from model.data.packing_plan import PackingSettings
from model.data.sampler import FrameSampler, Sampler
from model.data.transforms import ResizeImage
from model.data.unpacked import PoolSampler, UnpackedDataset
from model.errors import UserError, unknown_name
from model.progress import Silent
from model.robots import load_robot

VIDEO, POOL = "video", "pool"
VARIANTS = (*CODECS, VIDEO, POOL)


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """What is measured.

    Attributes:
        image_size, batch, horizon: of a batch. Views are the robot's.
        batches: measured of each packed codec and of the pool.
        video_batches: measured of the videos, which are slow.
        workers, ahead: threads, and batches made ahead.
        episodes, frames: of the recording.
        variants: of VARIANTS; "video" is random access, "pool" the loader without packing.
        pool_share: of the recording that fits the pool.
    """

    image_size: int = 224
    batch: int = 32
    horizon: int = 50
    batches: int = 40
    video_batches: int = 2
    workers: int = 2
    ahead: int = 4
    episodes: int = 6
    frames: int = 120
    variants: tuple[str, ...] = VARIANTS
    pool_share: float = 0.7
    robot: str = "aloha_sim"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "horizon", "batches", "video_batches", "episodes", "frames"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        for variant in self.variants:
            if variant not in VARIANTS:
                raise unknown_name("loader", variant, VARIANTS)


class RandomVideo:
    """Batches straight from the videos, each of which is opened once a batch and read at the rows as they were drawn.

    In a set of thousands of episodes two rows of a batch hardly share a key frame, so they are not sorted here.
    """

    def __init__(self, dataset: LeRobotDataset, packed: PackedDataset, image_size: int) -> None:
        self._dataset = dataset
        self._packed = packed
        self._resize = ResizeImage(image_size)

    def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
        """As `PackedDataset.batch`."""
        numbers = self._packed.table.numbers(rows, horizon)
        images = np.zeros((len(rows), *self._packed.image_shape), np.uint8)
        for episode in np.unique(numbers["episode"]):
            own = np.flatnonzero(numbers["episode"] == episode)
            wanted = numbers["frame"][own].tolist()
            for view, camera in enumerate(self._packed.meta.cameras):
                for row, image in zip(own, self._dataset.frames(int(episode), camera, wanted), strict=True):
                    images[row, view] = self._resize(image)
        return {"images": images} | numbers


def measure_loader(settings: LoaderSettings, message: Callable[[str], None]) -> dict[str, Any]:
    """Records, packs in each codec, and measures every variant. JSON-able.

    Returns:
        `variants`: by name samples_per_second (by the clock), cpu_ms_per_sample, samples_per_second_of_cpu (what
        `workers` cores give that do nothing else), wait_share, stated_bytes (of batches, decoders, tables and pool) and
        grown_bytes (what the process took beside mapped files; None where the system does not say); of packed ones
        bytes_per_frame and packing_seconds. `times_video`: their samples a CPU second over those of the videos.
        `config` and `load_average` (before).
    """
    robot = load_robot(settings.robot)
    load = os.getloadavg()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="loader-") as scratch:
        root = Path(scratch) / "dataset"
        message(f"recording {settings.episodes} episodes of {settings.frames} frames, {WIDTH}x{HEIGHT}, GOP {GOP}")
        write_recording(root, Recording(robot=robot, episodes=settings.episodes, frames=settings.frames))
        dataset = LeRobotDataset.open(root)
        # the videos' rows and numbers are those of the first packed set
        codecs = [name for name in settings.variants if name in CODECS] or ["uint8"]
        for codec in codecs:
            message(f"packing as {codec}")
            folder = Path(scratch) / codec
            folder.mkdir()
            began = time.perf_counter()
            packing = PackingSettings(
                image_size=settings.image_size, rate=float(dataset.info.fps), codec=codec, holdout_fraction=0.0
            )
            pack(dataset, robot, folder, packing, quarantined=frozenset(), segments={}, progress=Silent())
            seconds = time.perf_counter() - began
            packed = PackedDataset.open(folder)
            stored = sum((folder / name).stat().st_size for name in packed.meta.files)
            if codec in settings.variants:
                figures[codec] = _measure(
                    packed, _sampler(packed, settings), settings, settings.batches, message, codec
                )
                figures[codec]["stated_bytes"] += sum(packed.memory.values())
                figures[codec]["bytes_per_frame"] = stored / len(packed) / packed.image_shape[0]
                figures[codec]["packing_seconds"] = seconds
        if VIDEO in settings.variants:
            video = RandomVideo(dataset, packed, settings.image_size)
            sampler = _sampler(packed, settings)
            figures[VIDEO] = _measure(video, sampler, settings, settings.video_batches, message, VIDEO)
        if POOL in settings.variants:
            figures[POOL] = _measure_pool(dataset, settings, packing, message)
    base = figures.get(VIDEO)
    return {
        "variants": figures,
        "times_video": {
            name: base["cpu_ms_per_sample"] / own["cpu_ms_per_sample"] for name, own in figures.items() if base
        },
        "load_average": list(load),
        "config": asdict(settings),
    }


def _sampler(frames: "PackedDataset | UnpackedDataset", settings: LoaderSettings) -> FrameSampler:
    rows = frames.rows("train")
    return FrameSampler(
        rows=rows,
        early=frames.frames["progress"][rows] < 0.3,
        tasks=frames.frames["task"][rows],
        early_share=0.25,
        task_weights={0: 1.0},
        batch_size=settings.batch,
        seed=settings.seed,
    )


def _measure_pool(
    dataset: LeRobotDataset, settings: LoaderSettings, packing: PackingSettings, message: Callable[[str], None]
) -> dict[str, Any]:
    robot = load_robot(settings.robot)
    frame = len(robot.cameras) * settings.image_size**2 * 3
    frames = UnpackedDataset(
        dataset,
        robot,
        packing,
        quarantined=frozenset(),
        segments={},
        progress=Silent(),
        pool_bytes=max(1, int(settings.pool_share * settings.episodes * settings.frames)) * frame,
    )
    rows = frames.rows("train")
    sampler = PoolSampler(
        sampler=_sampler(frames, settings),
        episodes=frames.frames["episode"][rows],
        pool_frames=frames.pool_frames,
        steps_per_episode=max(settings.ahead, 8),
    )
    figures = _measure(frames, sampler, settings, settings.batches, message, POOL)
    figures["stated_bytes"] += frames.pool_frames * frame
    figures["decoded_episodes"] = frames.decoded
    return figures


def _measure(
    frames: Frames,
    sampler: Sampler,
    settings: LoaderSettings,
    batches: int,
    message: Callable[[str], None],
    name: str,
) -> dict[str, Any]:
    before, grown = _anonymous_bytes(), 0
    loader = Loader(
        frames=frames,
        sampler=sampler,
        horizon=settings.horizon,
        last=batches,
        workers=settings.workers,
        ahead=settings.ahead,
    )
    stated = loader.memory()
    frames.batch(sampler.batch(0), settings.horizon)  # code and pages are warm then
    wall, cpu = time.perf_counter(), time.process_time()
    with loader.open() as made:
        for batch in made:
            if before is not None:
                grown = max(grown, (_anonymous_bytes() or 0) - before)
            assert batch["images"].dtype == np.uint8
        wait = made.wait_seconds
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    samples = batches * settings.batch
    figures = {
        "samples_per_second": samples / wall,
        "cpu_ms_per_sample": cpu / samples * 1e3,
        "samples_per_second_of_cpu": settings.workers * samples / cpu,
        "wait_share": wait / wall,
        "stated_bytes": stated,
        "grown_bytes": None if before is None else grown,
    }
    message(
        f"{name}: {figures['samples_per_second']:.0f} samples/s by the clock, "
        f"{figures['samples_per_second_of_cpu']:.0f} by CPU time on {settings.workers} cores"
    )
    return figures


def _anonymous_bytes() -> int | None:
    """Memory of this process that is no mapped file; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("RssAnon:")]
    return int(found[0][1]) * 1024 if found else None
