"""How fast validation is: table checks over 1M frames, and video checks at 480x640 h264. Makes its own data.

    python tests/benchmarks/validation.py [--episodes 1000] [--frames 1000] [--seconds 20]

Issue 5 asks for 1,000 episodes of 1,000 frames with 14 dimensions in at most 20 s on 2 cores and 2 GiB, and for 300
frames/s a core of video. The table part is everything that the step does to a dataset but decoding: reading, measuring,
comparing, Great Expectations and the Data Docs. CPU seconds are given beside wall time, for a machine that is busy.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.validate.docs import write_docs
from components.validate.measure.scan import scan
from components.validate.measuring import Measuring
from components.validate.rulebook import episode_rules
from components.validate.suites import judge
from components.validate.thresholds import load_thresholds
from model.data.lerobot import LeRobotDataset
from model.data.video import Video
from model.progress import Silent
from model.robots import load_robot

FPS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=1000, help="of an episode")
    parser.add_argument("--seconds", type=int, default=20, help="of video at 30 fps")
    args = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, PyAV {av.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    with tempfile.TemporaryDirectory(prefix="lingbot-validation-") as scratch:
        tables(Path(scratch), args.episodes, args.frames)
        video(Path(scratch), args.seconds)


def tables(scratch: Path, episodes: int, frames: int) -> None:
    root = write_tables(scratch / "set", episodes, frames)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    robot, parts = load_robot("aloha_sim"), {}
    wall, cpu = time.perf_counter(), time.process_time()
    with timed(parts, "measure"):
        dataset = LeRobotDataset.open(root)
        measuring = Measuring(
            dataset=dataset, root=root, robot=robot, thresholds=load_thresholds(robot.id), depth_stride=10
        )
        rules = episode_rules(
            measuring.thresholds, spacing_tolerance=0.1, drift_tolerance=0.01, velocity_verified=False
        )
        rows = measuring.rows({}, Silent())
    with timed(parts, "judge"):
        judgement = judge(rows, rules)
    with timed(parts, "docs"):
        verdict = {
            "usable": True, "episodes_usable": episodes, "episodes_total": episodes, "findings": [], "decisions": [],
            "thresholds": {}, "dataset": {"robot": robot.id, "hours_usable": 0.0},
        }  # fmt: skip
        write_docs(scratch / "docs", verdict, judgement)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    broken = {name: len(found) for name, found in judgement.failed.items() if found}
    assert not broken, f"clean data is accused: {broken}"
    print(
        f"tables: {episodes * frames:,} frames, {len(rules)} rules: {wall:.1f} s wall, {cpu:.1f} s CPU, one process ("
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
        + f" s CPU), peak memory {peak / 2**20:.2f} GiB ({before / 2**20:.2f} before)"
    )


def write_tables(root: Path, episodes: int, frames: int) -> Path:
    """A v3.0 dataset without cameras: smooth motions of 14 joints, ten files of tables."""
    names = list(load_robot("aloha_sim").state_names)
    features = {key: {"dtype": "float32", "shape": [14], "names": names} for key in ("observation.state", "action")}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "int64", "shape": [1], "names": None}
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    info = {"codebase_version": "v3.0", "robot_type": "aloha_sim", "fps": FPS, "features": features}
    (root / "meta/info.json").write_text(json.dumps(info))
    pq.write_table(pa.table({"task_index": [0], "task": ["lift the cube"]}), root / "meta/tasks.parquet")
    count, rows, time_axis = np.arange(frames), [], np.arange(frames) / FPS
    for file in range(10):
        chosen = range(file * episodes // 10, (file + 1) * episodes // 10)
        made = []
        for episode in chosen:
            rng = np.random.default_rng(episode)
            values = 0.25 * np.sin(time_axis[:, None] * rng.uniform(0.3, 3, 14) + rng.uniform(0, 6.28, 14))
            values[:, [6, 13]] += 0.5
            values = values.astype(np.float32)
            action = np.concatenate([values[1:], values[-1:]])
            made.append(
                pa.table(
                    {
                        "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 14),
                        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), 14),
                        "timestamp": time_axis.astype(np.float32),
                        "frame_index": count,
                        "episode_index": np.full(frames, episode),
                        "index": count + episode * frames,
                        "task_index": np.zeros(frames, dtype=np.int64),
                    }
                )
            )
            rows.append(
                {
                    "episode_index": episode, "tasks": ["lift the cube"], "length": frames, "data/chunk_index": 0,
                    "data/file_index": file, "dataset_from_index": episode * frames,
                }
            )  # fmt: skip
        if made:
            pq.write_table(pa.concat_tables(made), root / f"data/chunk-000/file-{file:03d}.parquet")
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


def video(scratch: Path, seconds: int) -> None:
    """A moving patch on a noisy background, h264 in groups of 30 with B-frames, as cameras are usually encoded."""
    path, frames = scratch / "video.mp4", 30 * seconds
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (60, 80, 3)).repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "23", "g": "30", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for frame in range(frames):
            picture = ground.copy()
            left = 40 + frame % 480
            picture[200:300, left : left + 100] = (200, 60, 40)
            picture = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    source = Video(lambda: str(path))
    figures = {}
    for name, work in (
        ("decoding alone", lambda: source.check(0, frames)),
        ("checks", lambda: scan(source.decoded(0, frames))),
    ):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        figures[name] = (frames / (time.process_time() - cpu), frames / (time.perf_counter() - wall))
    print(
        f"video: 480x640 h264, {frames} frames, one thread: "
        + ", ".join(f"{name} {cpu:.0f} frames/s of CPU ({wall:.0f} of wall)" for name, (cpu, wall) in figures.items())
    )


@contextmanager
def timed(parts: dict[str, float], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    parts[name] = time.process_time() - start


if __name__ == "__main__":
    main()
