"""The episodes of a LeRobot dataset, and which files hold each: by templates in v2.0 and v2.1, by a table in v3.0.

What is declared but untrue (a path template that leads nowhere, a camera without files) is kept as a `Remark`, so that
a reader can go on and a validator can report it. Nothing here opens a table of frames or a video.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from model.data.files import DatasetFiles
from model.data.lerobot_layout import DEPTH_PATH, INFO, Clip, DatasetInfo, Episode, Remark
from model.data.lerobot_metadata import read_json, read_json_lines, read_parquet, whole_numbers
from model.errors import UserError


def read_episodes(files: DatasetFiles, info: DatasetInfo) -> tuple[tuple[Episode, ...], tuple[Remark, ...]]:
    """The declared episodes with the files that really hold them, and what the declaration got wrong."""
    if info.version == "v3.0":
        return _episodes_v3(files, info), ()
    return _episodes_v2(files, info)


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
    for number, row in enumerate(read_json_lines(files, "meta/episodes.jsonl"), start=1):
        index, length = whole_numbers(
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
            index, length, chunk, file = whole_numbers(
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
    start, end = (row.get(f"videos/{camera}/{key}") for key in ("from_timestamp", "to_timestamp"))
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)):
        raise UserError(
            f"{files.path('meta/episodes')}: episode {row['episode_index']} lies from {start!r} to {end!r} in {file}. "
            f"Give both times (videos/{camera}/from_timestamp and to_timestamp) in seconds."
        )
    return Clip(file=file, start=float(start), end=float(end))


def _depth_clips(files: DatasetFiles, info: DatasetInfo, index: int) -> dict[str, Clip | None]:
    """Depth videos lie outside the LeRobot schema (DESIGN section 6): one file an episode and camera."""
    clips: dict[str, Clip | None] = {}
    if "meta/depth.json" not in files:
        return clips
    declared = read_json(files.text("meta/depth.json"), files.path("meta/depth.json")).get("cameras", info.cameras)
    for camera in declared:
        file = DEPTH_PATH.format(video_key=camera, episode_chunk=index // info.chunks_size, episode_index=index)
        clips[camera] = Clip(file=file) if file in files else None
    return clips


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


def _texts(tasks: Any) -> tuple[str, ...]:
    if tasks is None:
        return ()
    return (tasks,) if isinstance(tasks, str) else tuple(str(task) for task in tasks)
