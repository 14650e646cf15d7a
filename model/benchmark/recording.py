"""A recorded LeRobot dataset of made-up scenes, for benchmarks: 480x640 video with a key frame every 30, as most have.

The scene is a wall of noise whose amplitude falls with the frequency, as in photographs, seen by a moving camera, with
two moving boxes and sensor noise; at 224 px its JPEGs are about as large as those of a simulated kitchen. Ratios carry
over to other data; absolute figures may not.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.robots import Robot

GOP = 30
HEIGHT, WIDTH = 480, 640
FPS = 30
FALL = 1.35  # amplitude ~ 1 / frequency ** FALL; 1 is a forest, 1.5 a smooth wall
SENSOR_NOISE = 1.5  # of 255, standard deviation
TASK = "put the box on the shelf"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How much: `episodes` of `frames` frames, every camera and joint of `robot`."""

    robot: Robot
    episodes: int
    frames: int
    seed: int = 0


def write_recording(root: Path, recording: Recording) -> None:
    """Write a LeRobot v2.1 dataset into the new folder `root`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cameras = tuple(f"observation.images.{name}" for name in recording.robot.cameras.values())
    (root / "meta").mkdir(parents=True)
    numbers = {"observation.state": recording.robot.state_names, "action": recording.robot.action_names}
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [len(names)], "names": list(names)} for key, names in numbers.items()
    }
    features |= {
        key: {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]}
        for key in cameras
    }
    for episode in range(recording.episodes):
        random = np.random.default_rng([recording.seed, episode])
        table = {
            key: pa.FixedSizeListArray.from_arrays(
                pa.array(random.normal(size=recording.frames * len(names)).astype(np.float32)), len(names)
            )
            for key, names in numbers.items()
        }
        index = np.arange(recording.frames)
        table |= {
            "timestamp": pa.array((index / FPS).astype(np.float32)),
            "frame_index": pa.array(index),
            "episode_index": pa.array(np.full(recording.frames, episode)),
            "index": pa.array(episode * recording.frames + index),
            "task_index": pa.array(np.zeros(recording.frames, np.int64)),
        }
        name = f"episode_{episode:06d}"
        (root / "data/chunk-000").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), root / f"data/chunk-000/{name}.parquet")
        for view, camera in enumerate(cameras):
            path = root / f"videos/chunk-000/{camera}/{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_video(path, _scene(recording.frames, [recording.seed, episode, view]))
    _write_lines(root / "meta/tasks.jsonl", [{"task_index": 0, "task": TASK}])
    _write_lines(
        root / "meta/episodes.jsonl",
        [{"episode_index": n, "tasks": [TASK], "length": recording.frames} for n in range(recording.episodes)],
    )
    info = {
        "codebase_version": "v2.1",
        "robot_type": recording.robot.id,
        "fps": FPS,
        "total_episodes": recording.episodes,
        "total_frames": recording.episodes * recording.frames,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))


def _scene(frames: int, seed: list[int]) -> Iterator[np.ndarray]:
    """uint8 [HEIGHT, WIDTH, 3] images."""
    random = np.random.default_rng(seed)
    margin = 160
    shape = (HEIGHT + margin, WIDTH + margin)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    frequency[0, 0] = np.inf
    wall = np.empty((*shape, 3), np.int16)
    shared = np.fft.rfft2(random.normal(size=shape))
    for channel in range(3):
        own = np.fft.rfft2(random.normal(size=shape))
        layer = np.fft.irfft2((shared + 0.2 * own) / frequency**FALL, s=shape)
        wall[..., channel] = 120 + 40 * layer / layer.std()
    noise = random.normal(0, SENSOR_NOISE, (8, HEIGHT, WIDTH, 1)).round().astype(np.int16)
    phase, colours = random.uniform(0, 6, 4), random.integers(20, 235, (2, 3))
    for frame in range(frames):
        time = frame / FPS
        top = int(margin / 2 * (1 + np.sin(0.7 * time + phase[0])))
        left = int(margin / 2 * (1 + np.sin(0.5 * time + phase[1])))
        image = wall[top : top + HEIGHT, left : left + WIDTH] + noise[frame % len(noise)]
        for box, colour in enumerate(colours):
            y = int((HEIGHT - 80) / 2 * (1 + np.sin(1.3 * time + phase[2 + box])))
            x = int((WIDTH - 80) / 2 * (1 + np.cos(1.1 * time + phase[3 - box])))
            image[y : y + 80, x : x + 80] = colour
        yield image.clip(0, 255).astype(np.uint8)


def _write_video(path: Path, images: Iterator[np.ndarray]) -> None:
    import av

    options = {"crf": "23", "preset": "veryfast", "g": str(GOP), "bf": "0", "threads": "1"}
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
