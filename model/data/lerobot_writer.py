"""Writes LeRobot v3.0 datasets that lerobot 0.4.4 reads.

Many episodes share a table and a video file; depth, which LeRobot's schema has no place for, lies beside in one FFV1
file an episode and is described in `meta/depth.json`. Nothing of an episode stays in memory but its statistics.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.lerobot_layout import DEPTH_PATH, IMAGE_PREFIX, INFO, V3_DATA_PATH, V3_VIDEO_PATH
from model.data.lerobot_parts import TableFile, VideoFile
from model.data.lerobot_staging import (
    H264_PIXELS,
    MAX_DEPTH,
    QUANTILES,
    StagedEpisode,
    column_stats,
    stage_episode,
)
from model.errors import UserError

if TYPE_CHECKING:
    import pyarrow

CHUNKS_SIZE = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
"""A file is closed and the next begun after the episode that takes it over this size (lerobot's defaults)."""
VIDEO_FILE_SECONDS = 1000
"""So is a video of this length: lerobot looks a frame up by its time in float32, to 0.1 ms, which holds to 1024 s."""
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
TASKS_PATH = "meta/tasks.parquet"
STATS_PATH = "meta/stats.json"
DEPTH_INFO_PATH = "meta/depth.json"
STATE, ACTION, EEF_POSE = "observation.state", "action", "observation.eef_pose"
EEF_NAMES = tuple(f"{arm}_{axis}" for arm in ("left", "right") for axis in ("x", "y", "z", "qw", "qx", "qy", "qz"))
INDEX_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


class LeRobotWriter:
    """Appends episodes to a new dataset; `finish` makes it whole.

    Args:
        root: folder of the dataset. Created; must hold no dataset yet.
        fps: frames a second.
        state_names, action_names: names of the numbers of `observation.state` and `action`.
        cameras: height and width in pixels by camera name (`cam_high`), in the order to declare them.
        depth: every camera also has depth.

    Raises:
        UserError: `root` already holds a dataset.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        fps: int,
        robot_type: str,
        state_names: Sequence[str],
        action_names: Sequence[str],
        cameras: Mapping[str, tuple[int, int]],
        depth: bool,
    ) -> None:
        self.root = Path(root)
        if (self.root / INFO).exists():
            raise UserError(f"'{self.root}' already holds a dataset ({INFO}): choose another folder, or remove it.")
        self.fps = fps
        self.robot_type = robot_type
        self.cameras = {f"{IMAGE_PREFIX}{name}": size for name, size in cameras.items()}
        self.columns = {STATE: tuple(state_names), ACTION: tuple(action_names), EEF_POSE: EEF_NAMES}
        self.depth = depth
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._frames = 0
        self._table: TableFile | None = None
        self._videos: dict[str, VideoFile] = {}

    def add_episode(
        self,
        *,
        task: str,
        state: np.ndarray,
        action: np.ndarray,
        eef_pose: np.ndarray,
        images: Mapping[str, np.ndarray],
        depth: Mapping[str, np.ndarray] | None = None,
    ) -> int:
        """Encode and append one episode; returns its index.

        Args:
            task: the instruction.
            state, action, eef_pose: float [length, dims].
            images: uint8 [length, H, W, 3] by camera name.
            depth: metres [length, H, W] by camera name, 0 = no return.

        Raises:
            UserError: the arrays do not fit each other or the declared features.
        """
        with tempfile.TemporaryDirectory(prefix="episode-", dir=self._made(self.root)) as scratch:
            staged = stage_episode(
                Path(scratch) / "episode",
                fps=self.fps,
                task=task,
                columns={STATE: state, ACTION: action, EEF_POSE: eef_pose},
                images={f"{IMAGE_PREFIX}{name}": frames for name, frames in images.items()},
                depth=None if depth is None else {f"{IMAGE_PREFIX}{name}": frames for name, frames in depth.items()},
            )
            return self.add_staged(staged)

    def add_staged(self, episode: StagedEpisode) -> int:
        """Append an episode that `stage_episode` encoded; returns its index. The staged folder is left as it was.

        Raises:
            UserError: it lacks a declared column or camera, or has another number of dimensions.
        """
        index = len(self._episodes)
        columns = episode.columns()
        self._check(episode, columns)
        task = self._tasks.setdefault(episode.task, len(self._tasks))
        count = np.arange(episode.length)
        own: dict[str, np.ndarray] = {
            "timestamp": (count / self.fps).astype(np.float32),
            "frame_index": count,
            "episode_index": np.full(episode.length, index),
            "index": count + self._frames,
            "task_index": np.full(episode.length, task),
        }
        row: dict[str, Any] = {"episode_index": index, "tasks": [episode.task], "length": episode.length}
        row |= self._append_table({**columns, **own})
        row |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + episode.length}
        for camera in self.cameras:
            row |= self._append_video(camera, episode)
            if self.depth:
                place = DEPTH_PATH.format(video_key=camera, episode_chunk=index // CHUNKS_SIZE, episode_index=index)
                shutil.copyfile(episode.depth(camera), self._made((self.root / place).parent) / Path(place).name)
        stats = {**episode.stats, **{key: column_stats(values) for key, values in own.items()}}
        for key in (*self.columns, *self.cameras, *INDEX_COLUMNS):
            row |= {f"stats/{key}/{name}": value for name, value in stats[key].items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self._episodes.append(row)
        self._frames += episode.length
        return index

    def finish(self) -> None:
        """Close the files and write `meta/`. Without it the folder is no dataset.

        Raises:
            UserError: no episode was added.
        """
        if not self._episodes:
            raise UserError(f"no episode was recorded for '{self.root}': a dataset needs at least one.")
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self._table is not None
        self._table.close()
        for video in self._videos.values():
            video.close()
        self._made((self.root / EPISODES_PATH).parent)
        pq.write_table(pa.Table.from_pylist(self._episodes), self.root / EPISODES_PATH)
        pq.write_table(_tasks_table(list(self._tasks)), self.root / TASKS_PATH)
        _write_json(self.root / STATS_PATH, self._stats())
        if self.depth:
            _write_json(self.root / DEPTH_INFO_PATH, self._depth_info())
        # Last: `meta/info.json` is what makes the folder a dataset.
        _write_json(self.root / INFO, self._info())

    def _check(self, episode: StagedEpisode, columns: Mapping[str, np.ndarray]) -> None:
        for key, names in self.columns.items():
            if key not in columns or columns[key].shape[1:] != (len(names),):
                got = columns[key].shape if key in columns else "nothing"
                raise UserError(f"'{key}' of an episode is {got}: it needs shape [length, {len(names)}].")
        for camera in self.cameras:
            if not episode.video(camera).exists():
                raise UserError(f"an episode has no frames of '{camera}': give images of each declared camera.")
            if self.depth and not episode.depth(camera).exists():
                raise UserError(
                    f"an episode has no depth of '{camera}': give it, or declare the dataset without depth."
                )

    def _append_table(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        if self._table is None or self._table.megabytes >= DATA_FILE_MB:
            number = 0 if self._table is None else self._table.number + 1
            if self._table is not None:
                self._table.close()
            path = self.root / V3_DATA_PATH.format(**_place(number))
            self._made(path.parent)
            self._table = TableFile(path, number)
        self._table.append(columns)
        return {f"data/{key}": value for key, value in _place(self._table.number).items()}

    def _append_video(self, camera: str, episode: StagedEpisode) -> dict[str, Any]:
        video = self._videos.get(camera)
        if video is None or video.megabytes >= VIDEO_FILE_MB or self._seconds(video, episode) > VIDEO_FILE_SECONDS:
            number = 0 if video is None else video.number + 1
            if video is not None:
                video.close()
            path = self.root / V3_VIDEO_PATH.format(video_key=camera, **_place(number))
            self._made(path.parent)
            video = self._videos[camera] = VideoFile(path, number, self.fps)
        begin = video.frames
        video.append(episode.video(camera))
        added = video.frames - begin
        if added != episode.length:
            raise UserError(
                f"'{episode.video(camera)}' has {added} frames, the table {episode.length}: record it again."
            )
        place: dict[str, Any] = {f"videos/{camera}/{key}": value for key, value in _place(video.number).items()}
        place[f"videos/{camera}/from_timestamp"] = begin / self.fps
        place[f"videos/{camera}/to_timestamp"] = video.frames / self.fps
        return place

    def _seconds(self, video: "VideoFile", episode: StagedEpisode) -> float:
        return (video.frames + episode.length) / self.fps

    def _info(self) -> dict[str, Any]:
        features: dict[str, Any] = {
            key: {"dtype": "float32", "shape": [len(names)], "names": list(names)}
            for key, names in self.columns.items()
        }
        for camera, (height, width) in self.cameras.items():
            features[camera] = {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": "h264",
                    "video.pix_fmt": H264_PIXELS,
                    "video.is_depth_map": False,
                    "video.fps": self.fps,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
        for key, dtype in INDEX_COLUMNS.items():
            features[key] = {"dtype": dtype, "shape": [1], "names": None}
        return {
            "codebase_version": "v3.0",
            "robot_type": self.robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNKS_SIZE,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": V3_DATA_PATH,
            "video_path": V3_VIDEO_PATH,
            "features": features,
        }

    def _depth_info(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "path": DEPTH_PATH,
            "cameras": list(self.cameras),
            "codec": "ffv1",
            "pix_fmt": "gray16le",
            "unit": "millimetre",
            "no_return": 0,
            "max_metres": MAX_DEPTH,
            "fps": self.fps,
        }

    def _stats(self) -> dict[str, dict[str, Any]]:
        keys = (*self.columns, *self.cameras, *INDEX_COLUMNS)
        names = ("min", "max", "mean", "std", "count", *QUANTILES)
        return {
            key: _merge([{name: row[f"stats/{key}/{name}"] for name in names} for row in self._episodes])
            for key in keys
        }

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNKS_SIZE, "file_index": number % CHUNKS_SIZE}


def _merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Statistics of all frames from those of each episode: exact, but quantiles, which are the mean of the episodes'
    weighted by their frames, as lerobot 0.4.4 aggregates them."""
    counts = np.array([part["count"][0] for part in parts], dtype=np.float64)
    weights = counts / counts.sum()

    def stacked(name: str) -> np.ndarray:
        return np.array([part[name] for part in parts])

    def weighted(values: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, values, axes=1)

    means = stacked("mean")
    mean = weighted(means)
    variance = weighted(stacked("std") ** 2 + (means - mean) ** 2)
    merged = {
        "min": stacked("min").min(axis=0),
        "max": stacked("max").max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
        **{name: weighted(stacked(name)) for name in QUANTILES},
    }
    return {name: value.tolist() for name, value in merged.items()}


def _tasks_table(tasks: Sequence[str]) -> "pyarrow.Table":
    """The tasks with the text as pandas' index, which is how lerobot looks a task up."""
    import pyarrow as pa

    index = "__index_level_0__"
    pandas = {
        "index_columns": [index],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        ],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4) + "\n")
