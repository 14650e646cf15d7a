"""What a LeRobot dataset says about itself: `meta/info.json`, tasks and episodes of v2.0, v2.1 and v3.0.

Nothing here opens a table or a video. What is declared but untrue (a path template that leads nowhere, a camera without
files) is kept as a `Remark`, so that a reader can go on and a validator can report it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from model.data.arrow import read_table
from model.data.files import DatasetFiles
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
    raw = _json(files.text(INFO), where)
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
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or fps <= 0:
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
        for number, row in enumerate(_json_lines(files, "meta/tasks.jsonl"), start=1):
            (index,) = _whole_numbers(row, ("task_index",), f"{files.path('meta/tasks.jsonl')} line {number}")
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


def read_episodes(files: DatasetFiles, info: DatasetInfo) -> tuple[tuple[Episode, ...], tuple[Remark, ...]]:
    """The declared episodes with the files that really hold them, and what the declaration got wrong."""
    if info.version == "v3.0":
        return _episodes_v3(files, info), ()
    return _episodes_v2(files, info)


def read_parquet(files: DatasetFiles, name: str) -> Any:
    """A pyarrow table; UserError names the file when it is absent or broken."""
    import pyarrow as pa

    if name not in files:
        raise UserError(f"{files.path(name)} is missing. Copy the whole dataset, or restore this file.")
    try:
        with files.open(name) as file:
            return read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{files.path(name)} cannot be read as Parquet ({_first_line(error)}). Restore the file."
        ) from error


class _FilesV2:
    """Finds an episode's files: where the template says, else by name (datasets moved by hand break their template)."""

    def __init__(self, files: DatasetFiles, info: DatasetInfo) -> None:
        self._files, self._info = files, info
        self._by_name: dict[tuple[str, str], str] = {}
        self.misplaced: dict[str, list[int]] = {}
        for name in sorted(files.names):
            parts = name.split("/")
            if parts[0] == "data":
                self._by_name.setdefault(("", parts[-1]), name)
            elif parts[0] == "videos":
                for camera in set(parts[1:-1]).intersection(info.cameras):
                    self._by_name.setdefault((camera, parts[-1]), name)

    def table(self, index: int) -> str | None:
        return self._locate("data_path", self._info.data_path, index, "", ".parquet")

    def video(self, index: int, camera: str) -> Clip | None:
        name = self._locate("video_path", self._info.video_path, index, camera, ".mp4")
        return None if name is None else Clip(file=name)

    def _locate(self, key: str, template: str, index: int, camera: str, suffix: str) -> str | None:
        chunk = index // self._info.chunks_size
        values = {"episode_chunk": chunk, "episode_index": index, "video_key": camera}
        declared = _fill(template, self._files, key, values)
        if declared in self._files:
            return declared
        found = self._by_name.get((camera, f"episode_{index:06d}{suffix}"))
        if found is not None:
            self.misplaced.setdefault(key, []).append(index)
        return found


def _episodes_v2(files: DatasetFiles, info: DatasetInfo) -> tuple[tuple[Episode, ...], tuple[Remark, ...]]:
    located = _FilesV2(files, info)
    cameras = [camera for camera in info.cameras if info.features[camera].dtype == "video"]
    episodes = []
    for number, row in enumerate(_json_lines(files, "meta/episodes.jsonl"), start=1):
        index, length = _whole_numbers(
            row, ("episode_index", "length"), f"{files.path('meta/episodes.jsonl')} line {number}"
        )
        episodes.append(
            Episode(
                index=index,
                length=length,
                tasks=_texts(row.get("tasks")),
                table=located.table(index),
                videos={camera: located.video(index, camera) for camera in cameras},
                depth=_depth_clips(files, info, index),
            )
        )
    remarks = tuple(
        Remark(
            rule="layout_path",
            message=f"{INFO} declares {key} '{getattr(info, key)}', but the files of {len(set(indices))} episodes "
            "lie elsewhere; they were found by name.",
            evidence={"key": key, "declared": getattr(info, key), "episodes": sorted(set(indices))},
        )
        for key, indices in located.misplaced.items()
    )
    return _ordered(episodes, files), remarks


def _episodes_v3(files: DatasetFiles, info: DatasetInfo) -> tuple[Episode, ...]:
    names = files.under("meta/episodes", ".parquet")
    if not names:
        raise UserError(f"{files.path('meta/episodes')} holds no Parquet file. Restore the folder: v3.0 needs it.")
    cameras = [camera for camera in info.cameras if info.features[camera].dtype == "video"]
    episodes = []
    for name in names:
        table = read_parquet(files, name)
        wanted = [column for column in table.column_names if not column.startswith("stats/")]
        for row in table.select(wanted).to_pylist():
            index, length, chunk, file = _whole_numbers(
                row, ("episode_index", "length", "data/chunk_index", "data/file_index"), files.path(name)
            )
            data = _fill(info.data_path, files, "data_path", {"chunk_index": chunk, "file_index": file})
            episodes.append(
                Episode(
                    index=index,
                    length=length,
                    tasks=_texts(row.get("tasks")),
                    table=data if data in files else None,
                    videos={camera: _clip_v3(files, info, camera, row) for camera in cameras},
                    depth=_depth_clips(files, info, index),
                )
            )
    return _ordered(episodes, files)


def _clip_v3(files: DatasetFiles, info: DatasetInfo, camera: str, row: Mapping[str, Any]) -> Clip | None:
    place = {key: row.get(f"videos/{camera}/{key}") for key in ("chunk_index", "file_index")}
    if None in place.values():
        return None
    file = _fill(info.video_path, files, "video_path", {**place, "video_key": camera})
    if file not in files:
        return None
    start, end = row[f"videos/{camera}/from_timestamp"], row[f"videos/{camera}/to_timestamp"]
    return Clip(file=file, start=float(start), end=float(end))


def _depth_clips(files: DatasetFiles, info: DatasetInfo, index: int) -> dict[str, Clip | None]:
    """Depth videos lie outside the LeRobot schema (DESIGN section 6): one file an episode and camera."""
    clips: dict[str, Clip | None] = {}
    if "meta/depth.json" not in files:
        return clips
    declared = _json(files.text("meta/depth.json"), files.path("meta/depth.json")).get("cameras", info.cameras)
    for camera in declared:
        file = DEPTH_PATH.format(video_key=camera, episode_chunk=index // info.chunks_size, episode_index=index)
        clips[camera] = Clip(file=file) if file in files else None
    return clips


def _feature(key: str, value: Any, where: str) -> Feature:
    if not isinstance(value, dict) or "dtype" not in value or "shape" not in value:
        raise UserError(f"{where}: feature '{key}' must declare 'dtype' and 'shape'.")
    shape = tuple(int(size) for size in value["shape"])
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


def _fill(template: str, files: DatasetFiles, key: str, values: Mapping[str, Any]) -> str:
    try:
        return template.format(**values)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{files.path(INFO)}: {key} '{template}' cannot be filled ({error}); "
            f"it may use {', '.join(sorted(values))}."
        ) from error


def _ordered(episodes: list[Episode], files: DatasetFiles) -> tuple[Episode, ...]:
    ordered = tuple(sorted(episodes, key=lambda episode: episode.index))
    for first, second in pairwise(ordered):
        if first.index == second.index:
            raise UserError(f"{files.path('meta')} declares episode {first.index} twice. Remove one of its rows.")
    return ordered


def _whole_numbers(row: Mapping[str, Any], keys: tuple[str, ...], where: str) -> list[int]:
    for key in keys:
        if not isinstance(row.get(key), int) or row[key] < 0:
            raise UserError(f"{where}: '{key}' is {row.get(key)!r}. It must be a whole number, zero or more.")
    return [row[key] for key in keys]


def _texts(tasks: Any) -> tuple[str, ...]:
    if tasks is None:
        return ()
    return (tasks,) if isinstance(tasks, str) else tuple(str(task) for task in tasks)


def _count(raw: Mapping[str, Any], key: str, where: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{where}: {key} is {value!r}. It must be a whole number, zero or more.")
    return value


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not valid JSON (line {error.lineno}: {error.msg}). Restore the file.") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} must hold a JSON object, it holds a {type(value).__name__}.")
    return value


def _json_lines(files: DatasetFiles, name: str) -> list[dict[str, Any]]:
    if name not in files:
        raise UserError(f"{files.path(name)} is missing. A v2.x dataset needs it: restore the file.")
    lines = files.text(name).splitlines()
    return [
        _json(line, f"{files.path(name)} line {number}") for number, line in enumerate(lines, start=1) if line.strip()
    ]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
