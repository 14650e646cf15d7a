"""What the frames of an episode show, by itself: frozen while the robot moves, black, flat."""

import numpy as np

from components.validate.measure.joints import Joints
from components.validate.summary import EpisodeSummary, longest_run
from components.validate.thresholds import Thresholds
from model.data.lerobot import STATE

SAME_CHANGE, SAME_PEAK = 0.05, 3  # grey levels: what a codec adds to a repeated frame


def measure_views(row: EpisodeSummary, joints: Joints, thresholds: Thresholds, fps: float) -> None:
    """Measures `row.scans`; a view that a robot's side carries is only expected to change with that side's joints."""
    if not row.scans:
        return
    _measure_frozen(row, joints, thresholds, fps)
    for name, what in (("black", "black"), ("flat", "one flat grey or colour")):
        worst = max(row.scans, key=lambda camera: int(_flags(row, camera, name, thresholds).sum()))
        flags = _flags(row, worst, name, thresholds)
        first = int(np.argmax(flags))
        row.measure(
            f"{name}_frames",
            int(flags.sum()),
            f"{int(flags.sum())} frames of '{worst}' are {what}, the first is frame {first}",
            camera=worst,
            frame=first,
            frames=int(flags.sum()),
        )


def _flags(row: EpisodeSummary, camera: str, name: str, thresholds: Thresholds) -> np.ndarray:
    seen = row.scans[camera]
    flat = seen.contrast < thresholds["flat_contrast"]
    dark = seen.level < thresholds["black_level"]
    return flat & dark if name == "black" else flat & ~dark


def _measure_frozen(row: EpisodeSummary, joints: Joints, thresholds: Thresholds, fps: float) -> None:
    state = row.vectors.get(STATE)
    if state is None or len(state) < 2:
        return
    worst = (0, "", 0)
    for camera, seen in row.scans.items():
        dims = side_of(camera, joints)
        if seen.frames != len(state) or not len(dims):
            continue
        moving = np.abs(np.diff(state[:, dims], axis=0)).max(axis=1) * fps > thresholds["frozen_speed"]
        same = (seen.change < SAME_CHANGE) & (seen.peak <= SAME_PEAK)
        first, length = longest_run(same)
        if length:
            length = int(moving[first : first + length].sum())
        worst = max(worst, (length, camera, first))
    length, camera, first = worst
    row.measure(
        "frozen_seconds",
        length / fps,
        f"'{camera}' shows one picture from frame {first} on, for {length} frames in which the robot moves",
        camera=camera,
        frame=first,
        frames=length,
    )


def side_of(camera: str, joints: Joints) -> np.ndarray:
    """Arm dimensions of the state whose motion a camera must show: those of its side where it has one, else all."""
    column = joints.columns[STATE]
    name = camera.rpartition(".")[2].lower()
    for side in ("left", "right"):
        if side in name:
            own = [dim for dim in column.arm if side in column.names[dim].lower()]
            return np.array(own, dtype=int) if own else column.arm
    return column.arm
