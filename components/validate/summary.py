"""One row of measurements an episode: what the rules look at, and the words that go with each fault.

Measuring and judging are apart: a row holds counts and seconds, `rules.py` says which of them are faults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.lerobot import ACTION, EEF_POSE, STATE, LeRobotDataset
from model.data.lerobot_layout import Clip, Episode
from model.data.video import VideoError
from model.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

VECTORS = (STATE, ACTION, EEF_POSE)


@dataclass(kw_only=True)
class EpisodeSummary:
    """Measurements of one episode by column name; None where there was nothing to measure.

    `details` has for a column the sentence and the evidence that a finding about it gives.
    """

    episode: int
    values: dict[str, float | None] = field(default_factory=dict)
    details: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    frames: int = 0
    task: str = ""

    def measure(self, column: str, value: float | None, sentence: str = "", **evidence: Any) -> None:
        self.values[column] = None if value is None else float(value)
        if sentence:
            self.details[column] = (sentence, evidence)


COLUMNS = (
    "table_missing",
    "table_unreadable",
    "frames",
    "columns_missing",
    "wrong_width_columns",
    "length_difference",
    "task_missing",
    "steps_backwards",
    "spacing_error",
    "drift",
    "start_offset",
    "video_missing",
    "video_unreadable",
    "video_frame_difference",
    "values_not_finite",
    "depth_missing",
    "depth_unreadable",
    "depth_frame_difference",
)


def summarize(
    dataset: LeRobotDataset, episode: Episode, cameras: Sequence[str], depth_stride: int = 1
) -> EpisodeSummary:
    """Reads the table of one episode, decodes every frame of its `cameras` and every `depth_stride`-th of their depth.

    Without a readable table nothing else of the episode can be compared, so nothing else is measured.
    """
    row = EpisodeSummary(episode=episode.index, values=dict.fromkeys(COLUMNS))
    table = _measure_table(dataset, episode, row)
    if table is None:
        return row
    stored = [camera for camera in cameras if dataset.info.features[camera].dtype == "image"]
    clips = {camera: episode.videos.get(camera) for camera in cameras if camera not in stored}
    _measure_clips(dataset, row, clips, "video", 1, _broken_images(dataset, episode.index, stored))
    if episode.depth:
        depth = {camera: clip for camera, clip in episode.depth.items() if camera in cameras}
        _measure_clips(dataset, row, depth, "depth", depth_stride, {})
    return row


def _measure_table(dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary) -> "pa.Table | None":
    row.measure("table_missing", episode.table is None, "its table is missing")
    if episode.table is None:
        return None
    try:
        table = dataset.table(episode.index)
    except UserError as error:
        row.measure("table_unreadable", 1, without_root(str(error), dataset), file=episode.table)
        return None
    row.measure("table_unreadable", 0)
    row.frames = table.num_rows
    row.measure("frames", row.frames, f"its table has {row.frames} frames, a motion needs 2", frames=row.frames)
    row.measure(
        "length_difference",
        abs(row.frames - episode.length),
        f"its table has {row.frames} frames, the metadata declares {episode.length}",
        table=row.frames,
        declared=episode.length,
    )
    missing = [key for key in (STATE, ACTION, "timestamp") if key not in table.column_names]
    row.measure("columns_missing", len(missing), _listed("its table lacks column", missing), columns=missing)
    _measure_vectors(dataset, episode, row, table)
    if "timestamp" not in missing:
        _measure_time(dataset, episode, row, table)
    try:
        row.task = dataset.instruction(episode.index, table)
        row.measure("task_missing", not row.task, "it has no task text", declared=list(episode.tasks))
    except UserError as error:
        row.measure("task_missing", 1, without_root(str(error), dataset))
    return table


def _measure_vectors(dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary, table: "pa.Table") -> None:
    wrong: dict[str, str] = {}
    bad: list[dict[str, Any]] = []
    for key in VECTORS:
        if key not in table.column_names:
            continue
        try:
            values = dataset.column(episode.index, table, key)
        except UserError as error:
            wrong[key] = without_root(str(error), dataset)
            continue
        where = np.argwhere(~np.isfinite(values))
        if where.size:
            frame, dimension = map(int, where[0])
            feature = dataset.info.features.get(key)
            names = feature.names if feature is not None else ()
            bad.append(
                {
                    "column": key,
                    "count": len(where),
                    "first_frame": frame,
                    "dimension": dimension,
                    "name": names[dimension] if names else str(dimension),
                }
            )
    row.measure("wrong_width_columns", len(wrong), "; ".join(wrong.values()), columns=sorted(wrong))
    told = "; ".join(
        f"column '{entry['column']}' has {entry['count']} values that are NaN or infinite, the first at frame "
        f"{entry['first_frame']} in dimension {entry['dimension']} ('{entry['name']}')"
        for entry in bad
    )
    row.measure("values_not_finite", sum(entry["count"] for entry in bad), told, columns=bad)


def _measure_time(dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary, table: "pa.Table") -> None:
    period = 1.0 / dataset.info.fps
    try:
        times = dataset.column(episode.index, table, "timestamp")[:, 0]
    except UserError as error:
        row.measure("steps_backwards", 1, without_root(str(error), dataset))
        return
    steps = np.diff(times)
    backwards = np.flatnonzero(~(steps > 0))  # NaN is not forward either
    first = int(backwards[0]) + 1 if backwards.size else 0
    row.measure(
        "steps_backwards",
        len(backwards),
        f"column 'timestamp' does not increase at {len(backwards)} frames, the first is frame {first}",
        frames=len(backwards),
        first_frame=first,
    )
    if backwards.size or not len(steps):
        return
    worst = int(np.argmax(np.abs(steps - period)))
    row.measure(
        "spacing_error",
        abs(float(steps[worst]) - period) / period,
        f"column 'timestamp' steps {steps[worst]:.4g} s at frame {worst + 1}; at {dataset.info.fps:g} fps it must be "
        f"{period:.4g} s",
        frame=worst + 1,
        seconds=round(float(steps[worst]), 6),
    )
    expected = len(steps) * period
    drift = (float(times[-1] - times[0]) - expected) / expected
    row.measure(
        "drift",
        abs(drift),
        f"column 'timestamp' spans {times[-1] - times[0]:.4g} s for {len(times)} frames; at {dataset.info.fps:g} fps "
        f"it must be {expected:.4g} s",
        seconds=round(float(times[-1] - times[0]), 6),
        expected=round(expected, 6),
    )
    start = float(times[0])
    row.measure("start_offset", abs(start) / period, f"column 'timestamp' starts at {start:.4g} s", seconds=start)


def _broken_images(dataset: LeRobotDataset, episode: int, cameras: Sequence[str]) -> dict[str, str]:
    """Cameras whose images, stored in the table, do not decode, with the reader's sentence."""
    broken = {}
    for camera in cameras:
        try:
            for _ in dataset.frames(episode, camera):
                pass
        except UserError as error:
            broken[camera] = without_root(str(error), dataset)
    return broken


def _measure_clips(
    dataset: LeRobotDataset,
    row: EpisodeSummary,
    clips: Mapping[str, Clip | None],
    kind: str,
    stride: int,
    broken: dict[str, str],
) -> None:
    """Presence, decoding and frame count of the clips of one `kind`: 'video' or 'depth'."""
    what = "video" if kind == "video" else "depth video"
    missing = [camera for camera, clip in clips.items() if clip is None]
    row.measure(f"{kind}_missing", len(missing), _listed(f"its {what} is missing of camera", missing), cameras=missing)
    counts: dict[str, int] = {}
    for camera, clip in clips.items():
        if clip is None:
            continue
        try:
            video, first, last = dataset.clip(clip)
            video.check(first, last, stride)
            counts[camera] = last - first
        except VideoError as error:
            broken[camera] = f"the {what} of '{camera}' ({clip.file}) cannot be read: {error}"
    row.measure(f"{kind}_unreadable", len(broken), "; ".join(broken.values()), cameras=sorted(broken))
    if not counts:
        return
    worst = max(counts, key=lambda camera: abs(counts[camera] - row.frames))
    row.measure(
        f"{kind}_frame_difference",
        abs(counts[worst] - row.frames),
        f"the {what} of '{worst}' has {counts[worst]} frames, the table {row.frames}",
        cameras={camera: count for camera, count in counts.items() if count != row.frames},
        table=row.frames,
    )


def without_root(message: str, dataset: LeRobotDataset) -> str:
    """A reader's sentence without the place of the dataset: a verdict must not depend on where the bytes lay."""
    return message.replace(f"{dataset.root}: ", "").replace(f"{dataset.root}/", "").rstrip(".")


def _listed(words: str, cameras: Sequence[str]) -> str:
    return f"{words} {', '.join(repr(camera) for camera in cameras)}"
