"""One recorded episode in its final encoding, in a folder of its own, before it joins a dataset.

Recording is slow and may be killed; joining is fast. Whoever records stages each episode (in any order, in any
process), and `LeRobotWriter` joins the staged folders without encoding again, so the bytes of a dataset do not depend
on how its recording was divided or interrupted.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import UserError

EPISODE_FILE = "episode.json"
TABLE_FILE = "table.npz"
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MILLIMETRES = 1000.0
MAX_DEPTH = 65.535
"""Metres: the largest depth that 16 bits of millimetres hold."""

# 4:4:4 because a colourful object of 8 pixels keeps its edge: near the cube of the simulated tasks the error of a
# decoded pixel is 3.4 of 255 (root mean square) and 26 with 4:2:0 at the same size. No B-frames: the order of packets
# is the order of frames, so joining needs no edit list. One thread: equal frames give equal bytes.
H264_OPTIONS = {"crf": "18", "preset": "medium", "g": "10", "bf": "0", "threads": "1"}
H264_PIXELS = "yuv444p"
# Every frame stands alone, for random access.
FFV1_OPTIONS = {"level": "3", "g": "1", "slices": "4", "threads": "1"}
BITEXACT = {"fflags": "+bitexact"}
"""Container option: no random identifiers, no dates."""


@dataclass(frozen=True, kw_only=True)
class StagedEpisode:
    """What `stage_episode` left in a folder."""

    folder: Path
    task: str
    length: int
    stats: Mapping[str, Mapping[str, Any]]
    """Per column or camera: min, max, mean, std, count and quantiles, nested as LeRobot stores them."""

    @classmethod
    def open(cls, folder: Path) -> "StagedEpisode":
        """The episode in `folder`, which `stage_episode` made."""
        said = json.loads((folder / EPISODE_FILE).read_text())
        return cls(folder=folder, task=said["task"], length=said["length"], stats=said["stats"])

    def columns(self) -> dict[str, np.ndarray]:
        """The numeric columns, float32 [length, dims]."""
        with np.load(self.folder / TABLE_FILE) as table:
            return {key: table[key] for key in table.files}

    def video(self, camera: str) -> Path:
        return self.folder / f"{camera}.mp4"

    def depth(self, camera: str) -> Path:
        return self.folder / f"{camera}.depth.mkv"


def stage_episode(
    folder: Path,
    *,
    fps: int,
    task: str,
    columns: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    depth: Mapping[str, np.ndarray] | None = None,
) -> StagedEpisode:
    """Encode one episode into `folder`, which appears only when it is complete.

    Args:
        folder: created; replaced when it exists.
        task: the instruction.
        columns: float [length, dims] by feature name, e.g. `observation.state` and `action`.
        images: uint8 [length, H, W, 3] by camera key (`observation.images.x`).
        depth: metres [length, H, W] by camera key, 0 = no return.

    Raises:
        UserError: lengths differ, a number is not finite, or there is no frame.
    """
    length = _checked_length(columns, images, depth or {})
    building = folder.with_name(folder.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    table: dict[str, Any] = {key: np.asarray(values, dtype=np.float32) for key, values in columns.items()}
    np.savez(building / TABLE_FILE, **table)
    stats = {key: column_stats(values) for key, values in table.items()}
    staged = StagedEpisode(folder=building, task=task, length=length, stats=stats)
    for camera, frames in images.items():
        stats[camera] = image_stats(frames)
        encode_video(staged.video(camera), frames, fps)
    for camera, metres in (depth or {}).items():
        encode_depth(staged.depth(camera), metres, fps)
    (building / EPISODE_FILE).write_text(json.dumps({"task": task, "length": length, "stats": stats}, sort_keys=True))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    return StagedEpisode(folder=folder, task=task, length=length, stats=stats)


def encode_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """H.264 in MP4 from uint8 [length, H, W, 3]; frame i is shown at exactly i/fps."""
    _encode(path, frames, "rgb24", fps, container="mp4", codec="libx264", pixels=H264_PIXELS, options=H264_OPTIONS)


def encode_depth(path: Path, metres: np.ndarray, fps: int) -> None:
    """FFV1 in Matroska from metres [length, H, W]: whole millimetres in 16 bits, lossless from there."""
    millimetres = np.rint(np.clip(metres, 0.0, MAX_DEPTH) * MILLIMETRES).astype(np.uint16)
    _encode(
        path, millimetres, "gray16le", fps, container="matroska", codec="ffv1", pixels="gray16le", options=FFV1_OPTIONS
    )


def _encode(
    path: Path,
    frames: np.ndarray,
    layout: str,
    fps: int,
    *,
    container: str,
    codec: str,
    pixels: str,
    options: dict[str, str],
) -> None:
    import av

    with av.open(str(path), "w", format=container, options=BITEXACT) as out:
        stream: Any = out.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, fps)
        for index, pixels_of_frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_of_frame), format=layout)
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def column_stats(values: np.ndarray) -> dict[str, Any]:
    """Statistics over the frames of a column [length] or [length, dims], as LeRobot stores them: lists of `dims`."""
    rows = values.reshape(len(values), -1)
    whole = np.issubdtype(values.dtype, np.integer)
    exact = rows if whole else rows.astype(np.float64)
    stats = {
        "min": exact.min(axis=0).tolist(),
        "max": exact.max(axis=0).tolist(),
        "mean": exact.mean(axis=0).tolist(),
        "std": exact.std(axis=0).tolist(),
        "count": [len(rows)],
    }
    for name, value in zip(QUANTILES, np.quantile(exact, list(QUANTILES.values()), axis=0), strict=True):
        stats[name] = value.tolist()
    return stats


def image_stats(frames: np.ndarray) -> dict[str, Any]:
    """Statistics over all pixels of uint8 [length, H, W, 3], in 0..1, per channel, nested as [3][1][1].

    Exact, from the histogram of the 256 values.
    """
    levels = np.arange(256) / 255.0
    stats: dict[str, Any] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
    for channel in range(frames.shape[-1]):
        counts = np.bincount(frames[..., channel].reshape(-1), minlength=256)
        total = counts.sum()
        present = levels[counts > 0]
        mean = float(counts @ levels / total)
        below = np.cumsum(counts)
        found = {
            "min": present[0],
            "max": present[-1],
            "mean": mean,
            "std": np.sqrt(counts @ (levels - mean) ** 2 / total),
            **{name: levels[np.searchsorted(below, q * total)] for name, q in QUANTILES.items()},
        }
        for name, value in found.items():
            stats[name].append([[float(value)]])
    return {**stats, "count": [len(frames)]}


def _checked_length(
    columns: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray], depth: Mapping[str, np.ndarray]
) -> int:
    lengths = {key: len(values) for key, values in [*columns.items(), *images.items()]}
    lengths |= {f"depth of {key}": len(values) for key, values in depth.items()}
    if len(set(lengths.values())) != 1 or not next(iter(lengths.values()), 0):
        raise UserError(f"an episode needs the same number of frames everywhere, at least one; got {lengths}.")
    for key, values in columns.items():
        if not np.isfinite(values).all():
            frame = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
            raise UserError(f"'{key}' has a number that is not finite at frame {frame}: record finite numbers only.")
    for key, values in images.items():
        if values.dtype != np.uint8 or values.ndim != 4 or values.shape[-1] != 3:
            raise UserError(
                f"'{key}' is {values.dtype} {values.shape}: give images as uint8 [length, height, width, 3]."
            )
    return next(iter(lengths.values()))
