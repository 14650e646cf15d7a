"""What a LeRobot dataset says about itself: `meta/info.json` and the tasks of v2.0, v2.1 and v3.0.

Nothing here opens a table or a video. Where the files of an episode are is in `lerobot_episodes`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model.data.files import DatasetFiles
from model.data.lerobot_metadata import read_json, read_json_lines, read_parquet, whole_numbers
from model.errors import UserError

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
IMAGE_PREFIX = "observation.images."
VALIDITY_WORDS = frozenset({"valid", "invalid"})  # GR00T's annotation.human.validity stores its labels among the tasks

V2_DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
DEPTH_PATH = "depth/{video_key}/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.mkv"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One declared column or camera. `names` is flattened, empty when absent or when it does not fit `shape`."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def is_camera(self) -> bool:
        return self.dtype in ("video", "image")


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something declared that is not so, and that reading could live with."""

    rule: str
    message: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """`meta/info.json`, checked."""

    version: str
    robot_type: str
    fps: float
    features: Mapping[str, Feature]
    total_episodes: int | None
    total_frames: int | None
    total_tasks: int | None
    chunks_size: int
    data_path: str
    video_path: str

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the declared cameras, in the declared order (`observation.images.x`)."""
        return tuple(key for key, feature in self.features.items() if feature.is_camera)

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.features["observation.state"].names if "observation.state" in self.features else ()

    @property
    def action_names(self) -> tuple[str, ...]:
        return self.features["action"].names if "action" in self.features else ()


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Where one camera of one episode lies. `start` and `end` (s) bound it in a file that several episodes share."""

    file: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One declared episode and the files that hold it; None where the dataset has no such file."""

    index: int
    length: int
    tasks: tuple[str, ...]
    table: str | None
    videos: Mapping[str, Clip | None] = field(default_factory=dict)
    depth: Mapping[str, Clip | None] = field(default_factory=dict)

    @property
    def instruction(self) -> str:
        """The declared task sentence; validity labels are not instructions. Empty when there is none."""
        return next((task for task in self.tasks if is_instruction(task)), "")


def is_instruction(task: str) -> bool:
    return bool(task.strip()) and task.strip().lower() not in VALIDITY_WORDS


def read_info(files: DatasetFiles) -> DatasetInfo:
    """The checked `meta/info.json`.

    Raises:
        UserError: there is none, it is not valid JSON, lacks a key, or is of a version that is not read here.
    """
    where = files.path(INFO)
    if INFO not in files:
        reason = "it has no meta/info.json" if files.names else "no such folder, or it is empty"
        raise UserError(
            f"{files.root} is not a LeRobot dataset: {reason}. Give the folder that holds meta/, data/ and videos/."
        )
    raw = read_json(files.text(INFO), where)
    version = str(raw.get("codebase_version", "none"))
    if version not in VERSIONS:
        raise UserError(
            f"{where}: codebase_version '{version}' is none of {', '.join(VERSIONS)}. "
            "Convert the dataset to v3.0 with lerobot's conversion scripts."
        )
    for key in ("fps", "features"):
        if key not in raw:
            raise UserError(f"{where}: key '{key}' is missing. Every LeRobot dataset declares it: add it.")
    fps = raw["fps"]
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0 < fps < math.inf:
        raise UserError(f"{where}: fps is {fps!r}. It must be a positive number of frames per second.")
    if not isinstance(raw["features"], dict):
        raise UserError(f"{where}: 'features' must map names to their dtype and shape.")
    v3 = version == "v3.0"
    return DatasetInfo(
        version=version,
        robot_type=str(raw.get("robot_type") or "unknown"),
        fps=float(fps),
        features={key: _feature(key, value, where) for key, value in raw["features"].items()},
        total_episodes=_count(raw, "total_episodes", where),
        total_frames=_count(raw, "total_frames", where),
        total_tasks=_count(raw, "total_tasks", where),
        chunks_size=_count(raw, "chunks_size", where) or 1000,
        data_path=str(raw.get("data_path") or (V3_DATA_PATH if v3 else V2_DATA_PATH)),
        video_path=str(raw.get("video_path") or (V3_VIDEO_PATH if v3 else V2_VIDEO_PATH)),
    )


def read_tasks(files: DatasetFiles, info: DatasetInfo) -> dict[int, str]:
    """Task index -> text, from `meta/tasks.jsonl` (v2.x) or `meta/tasks.parquet` (v3.0)."""
    if info.version != "v3.0":
        tasks = {}
        for number, row in enumerate(read_json_lines(files, "meta/tasks.jsonl"), start=1):
            (index,) = whole_numbers(row, ("task_index",), f"{files.path('meta/tasks.jsonl')} line {number}")
            tasks[index] = str(row.get("task") or "")
        return tasks
    import pyarrow as pa

    table = read_parquet(files, "meta/tasks.parquet")
    # lerobot writes the text as the pandas index; other writers use a plain column `task`.
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise UserError(
            f"{files.path('meta/tasks.parquet')}: columns 'task_index' and the task text are needed, "
            f"it has {', '.join(table.column_names)}."
        )
    indices = table["task_index"].cast(pa.int64()).to_pylist()
    return dict(zip(indices, map(str, table[text].to_pylist()), strict=True))


def _feature(key: str, value: Any, where: str) -> Feature:
    if not isinstance(value, dict) or "dtype" not in value or "shape" not in value:
        raise UserError(f"{where}: feature '{key}' must declare 'dtype' and 'shape'.")
    try:
        shape = tuple(int(size) for size in value["shape"])
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: feature '{key}' has shape {value['shape']!r}. It must be a list of whole numbers."
        ) from error
    names = _flat_names(value.get("names"))
    fits = len(shape) == 1 and len(names) == shape[0]
    return Feature(key=key, dtype=str(value["dtype"]), shape=shape, names=names if fits else ())


def _flat_names(names: Any) -> tuple[str, ...]:
    """Names in order, whatever the nesting: lists, lists of lists, {"motors": [...]}, {"name": position}."""
    if names is None:
        return ()
    if isinstance(names, dict):
        if names and all(isinstance(value, int) for value in names.values()):
            return tuple(sorted(names, key=lambda name: int(names[name])))
        return tuple(name for value in names.values() for name in _flat_names(value))
    if isinstance(names, list):
        return tuple(name for value in names for name in _flat_names(value))
    return (str(names),)


def _count(raw: Mapping[str, Any], key: str, where: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{where}: {key} is {value!r}. It must be a whole number, zero or more.")
    return value
