"""Small LeRobot datasets for tests, written without the project's own writer, so that reader and writer cannot agree on
the same mistake. Each frame carries its episode and frame number in its pixels, so that a wrong frame is seen.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
NAMES = [f"{side}_{joint}" for side in ("left", "right") for joint in JOINTS]
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
SIZE = 48
LEVEL = 4  # grey levels between neighbouring frames: more than h264 loses on a flat patch


def picture(episode: int, frame: int, camera: int) -> np.ndarray:
    """A grey image: left half tells the frame, upper right the episode (modulo 6), lower right the camera.

    The top rows hold bars of the episode's own, so that no two episodes have the same video.
    """
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[:, : SIZE // 2] = 16 + LEVEL * frame
    image[: SIZE // 2, SIZE // 2 :] = 16 + 8 * (episode % 6)
    image[SIZE // 2 :, SIZE // 2 :] = 76 + 60 * camera
    bars = np.random.default_rng([episode, camera]).integers(0, 2, SIZE // 4)
    image[:3] = (40 + 120 * bars).repeat(4)[None, :, None]
    return image


def told(image: np.ndarray) -> tuple[int, int, int]:
    """(episode, frame, camera) that an image shows."""
    frame = (image[8:-8, 4:20].mean() - 16) / LEVEL
    episode = (image[8:20, 28:-4].mean() - 16) / 8
    camera = (image[28:-4, 28:-4].mean() - 76) / 60
    return round(float(episode)), round(float(frame)), round(float(camera))


def write_video(path: Path, images: Sequence[np.ndarray], fps: int, *, options: dict[str, str] | None = None) -> None:
    """An h264 video with B-frames and a long group of pictures: the hard case for exact access."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options or {"crf": "12", "g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], "yuv420p"
        stream.codec_context.thread_count = 1
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_depth(path: Path, millimetres: Sequence[np.ndarray], fps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = millimetres[0].shape[1], millimetres[0].shape[0], "gray16le"
        for image in millimetres:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint16), format="gray16le")))
        container.mux(stream.encode(None))


def motion(episode: int, length: int) -> np.ndarray:
    """Float32 [length, 14]: a smooth motion within the limits of aloha_sim, another one each episode."""
    time = np.linspace(0, 1, length)[:, None]
    values = 0.3 * np.sin(2 * np.pi * (time + 0.1 * np.arange(14)[None] + 0.05 * episode))
    values[:, [6, 13]] = 0.5 + 0.5 * np.cos(2 * np.pi * time)
    return values.astype(np.float32)


def _info(version: str, lengths: Sequence[int], tasks: Sequence[str], fps: int, robot_type: str) -> dict[str, Any]:
    v3 = version == "v3.0"
    vector = {"dtype": "float32", "shape": [14], "names": {"motors": NAMES} if not v3 else NAMES}
    scalar = {"shape": [1], "names": None}
    features: dict[str, Any] = {"observation.state": vector, "action": vector}
    for camera in CAMERAS:
        features[f"observation.images.{camera}"] = {
            "dtype": "video",
            "shape": [SIZE, SIZE, 3],
            "names": ["height", "width", "channels"],
        }
    features["timestamp"] = {"dtype": "float32", **scalar}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "int64", **scalar}
    data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    if not v3:
        data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    return {
        "codebase_version": version,
        "robot_type": robot_type,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "fps": fps,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": data,
        "video_path": video,
        "features": features,
    }


def _table(episode: int, length: int, first: int, task: int, fps: int) -> pa.Table:
    values = motion(episode, length)
    following = np.concatenate([values[1:], values[-1:]])
    vectors = {
        key: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), 14)
        for key, array in (("observation.state", values), ("action", following))
    }
    frames = np.arange(length)
    return pa.table(
        {
            **vectors,
            "timestamp": pa.array((frames / fps).astype(np.float32)),
            "frame_index": frames,
            "episode_index": np.full(length, episode),
            "index": first + frames,
            "task_index": np.full(length, task),
        }
    )


def write_dataset(
    root: Path,
    version: str = "v2.1",
    *,
    lengths: Sequence[int] = (20, 26, 23),
    tasks: Sequence[str] = ("lift the cube with the right arm", "lift the cube with the left arm"),
    fps: int = 10,
    depth: bool = False,
    robot_type: str = "aloha_sim",
) -> Path:
    """A clean dataset of `version` in `root`; episode e has task e modulo their number."""
    info = _info(version, lengths, tasks, fps, robot_type)
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    firsts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    tables = [
        _table(episode, length, firsts[episode], episode % len(tasks), fps) for episode, length in enumerate(lengths)
    ]
    images = {
        camera: [[picture(episode, frame, number) for frame in range(length)] for episode, length in enumerate(lengths)]
        for number, camera in enumerate(CAMERAS)
    }
    writer = _write_v3 if version == "v3.0" else _write_v2
    writer(root, lengths, tasks, fps, tables, images)
    if depth:
        cameras = [f"observation.images.{camera}" for camera in CAMERAS]
        (root / "meta/depth.json").write_text(json.dumps({"cameras": cameras, "unit": "millimetre"}))
        for camera in cameras:
            for episode, length in enumerate(lengths):
                maps = [np.full((SIZE, SIZE), 500 + 10 * frame + episode, np.uint16) for frame in range(length)]
                maps[0][0, 0] = 0
                write_depth(root / f"depth/{camera}/chunk-000/episode_{episode:06d}.mkv", maps, fps)
    return root


def _write_v2(root: Path, lengths: Any, tasks: Any, fps: int, tables: Any, images: Any) -> None:
    rows = [
        {"episode_index": episode, "tasks": [tasks[episode % len(tasks)]], "length": length}
        for episode, length in enumerate(lengths)
    ]
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [json.dumps({"task_index": number, "task": task}) for number, task in enumerate(tasks)]
    (root / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")
    (root / "data/chunk-000").mkdir(parents=True)
    for episode, table in enumerate(tables):
        pq.write_table(table, root / f"data/chunk-000/episode_{episode:06d}.parquet")
        for camera, episodes in images.items():
            path = root / f"videos/chunk-000/observation.images.{camera}/episode_{episode:06d}.mp4"
            write_video(path, episodes[episode], fps)


def _write_v3(root: Path, lengths: Any, tasks: Any, fps: int, tables: Any, images: Any) -> None:
    (root / "data/chunk-000").mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), root / "data/chunk-000/file-000.parquet")
    pq.write_table(
        pa.table({"task_index": list(range(len(tasks))), "__index_level_0__": list(tasks)}),
        root / "meta/tasks.parquet",
    )
    rows = []
    first = 0
    for episode, length in enumerate(lengths):
        row: dict[str, Any] = {
            "episode_index": episode,
            "tasks": [tasks[episode % len(tasks)]],
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
        }
        for camera in CAMERAS:
            key = f"videos/observation.images.{camera}"
            row |= {f"{key}/chunk_index": 0, f"{key}/file_index": 0}
            row |= {f"{key}/from_timestamp": first / fps, f"{key}/to_timestamp": (first + length) / fps}
        rows.append(row)
        first += length
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    for camera, episodes in images.items():
        path = root / f"videos/observation.images.{camera}/chunk-000/file-000.mp4"
        write_video(path, [image for episode in episodes for image in episode], fps)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
