"""Units, limits, spikes and derivatives of states and actions: vectorised over all frames and joints of an episode.

Derivatives are differences across 0.1 s (one frame where that is longer), so that a number means the same at 10 and at
50 frames a second and the noise of an encoder is not amplified. Each fault is told once: a column in a wrong unit is
judged by nothing else, a spike is taken out before derivatives, and a joint that breaks a lower derivative's limit is
left out of the higher ones.
"""

import numpy as np

from components.validate.measure.joints import Column, Joints
from components.validate.summary import EpisodeSummary, rounded
from components.validate.thresholds import Thresholds
from model.data.lerobot import ACTION, EEF_POSE, STATE

SPAN = 0.1  # seconds of a difference
DEGREES, TICKS = (
    1000.0,
    100.0,
)  # beyond the first nothing is an angle in degrees; whole numbers beyond the second: ticks
POSITIONS, ROTATIONS = (slice(0, 3), slice(7, 10)), (slice(3, 7), slice(10, 14))


def measure_motion(row: EpisodeSummary, joints: Joints, thresholds: Thresholds, fps: float) -> None:
    """Measures `row.vectors`, and takes out of them what is in a wrong unit."""
    _measure_units(row, joints, thresholds)
    if EEF_POSE in row.vectors and row.vectors[EEF_POSE].shape[1] == 14:
        _measure_rotations(row)
    for key, short in ((STATE, "state"), (ACTION, "action")):
        if key not in row.vectors or (key == ACTION and joints.relative):
            continue
        column = joints.columns[key]
        _measure_limits(row, key, short, column)
        _measure_derivatives(row, key, short, column, thresholds, fps)
    _measure_grippers(row, joints)


def _measure_units(row: EpisodeSummary, joints: Joints, thresholds: Thresholds) -> None:
    found: dict[str, list[str]] = {"unit_degrees": [], "unit_ticks": [], "unit_millimetres": []}
    where: dict[str, tuple[str, int, float]] = {}
    for key in (STATE, ACTION):
        if key not in row.vectors or not len(joints.columns[key].radian):
            continue
        dims = joints.columns[key].radian
        values = row.vectors[key][:, dims]
        largest = np.abs(values).max(axis=0)
        dim = int(np.argmax(largest))
        if largest[dim] <= thresholds["radian_limit"]:
            continue
        whole = largest[dim] > TICKS and bool((values[:, dim] == np.rint(values[:, dim])).all())
        name = "unit_ticks" if whole or largest[dim] > DEGREES else "unit_degrees"
        found[name].append(key)
        where.setdefault(name, (key, int(dims[dim]), float(largest[dim])))
    if EEF_POSE in row.vectors and row.vectors[EEF_POSE].shape[1] == 14:
        reach = np.concatenate([row.vectors[EEF_POSE][:, part] for part in POSITIONS], axis=1)
        largest = np.abs(reach).max(axis=0)
        if largest.max() > thresholds["metre_limit"]:
            dim = int(np.argmax(largest))
            found["unit_millimetres"].append(EEF_POSE)
            where["unit_millimetres"] = (EEF_POSE, dim if dim < 3 else dim + 4, float(largest.max()))
    unit = {"unit_degrees": "degrees", "unit_ticks": "an encoder's ticks", "unit_millimetres": "millimetres"}
    expected = {"unit_millimetres": "metres"}
    for name, keys in found.items():
        if not keys:
            row.measure(name, 0)
            continue
        key, dim, value = where[name]
        row.measure(
            name,
            len(keys),
            f"column '{key}' reaches {value:.4g} in dimension {dim}: it looks like {unit[name]}, "
            f"{expected.get(name, 'radian')} is expected",
            **rounded({"column": key, "dimension": dim, "reaches": value, "columns": keys}),
        )
        for key in keys:
            row.vectors.pop(key)


def _measure_rotations(row: EpisodeSummary) -> None:
    values = row.vectors.get(EEF_POSE)
    if values is None:
        return
    error = np.stack([np.abs(np.linalg.norm(values[:, part], axis=1) - 1) for part in ROTATIONS], axis=1)
    frame, hand = map(int, np.unravel_index(np.argmax(error), error.shape))
    row.measure(
        "quaternion_error",
        error[frame, hand],
        f"the {('left', 'right')[hand]} rotation of column '{EEF_POSE}' has length {1 + error[frame, hand]:.4g} or "
        f"its inverse at frame {frame}, a rotation has 1",
        column=EEF_POSE,
        dimension=3 + 7 * hand,
        frame=frame,
    )


def _measure_limits(row: EpisodeSummary, key: str, short: str, column: Column) -> None:
    known = np.flatnonzero(np.isfinite(column.limits[:, 0]))
    if not len(known):
        return
    values = row.vectors[key][:, known]
    low, high = column.limits[known].T
    beyond = np.maximum(low - values, values - high)
    frame, place = map(int, np.unravel_index(np.argmax(beyond), beyond.shape))
    dim = int(known[place])
    row.measure(
        f"{short}_beyond_limits",
        max(0.0, float(beyond[frame, place])),
        f"column '{key}' is {values[frame, place]:.4g} at frame {frame} in '{column.names[dim]}', its limits are "
        f"{low[place]:g} to {high[place]:g}",
        **rounded({"column": key, "dimension": dim, "frame": frame, "value": float(values[frame, place])}),
    )


def _measure_derivatives(
    row: EpisodeSummary, key: str, short: str, column: Column, thresholds: Thresholds, fps: float
) -> None:
    dims = column.arm
    values = row.vectors[key]
    if not len(dims) or len(values) < 3:
        return
    values, spikes, size = _without_spikes(values[:, dims], thresholds[f"{short}_spike"], thresholds["spike_ratio"])
    frame, place = map(int, np.unravel_index(np.argmax(size), size.shape))
    row.measure(
        f"{short}_spikes",
        int(spikes.sum()),
        f"column '{key}' is {size[frame, place]:.3g} off both neighbours at frame {frame + 1} in "
        f"'{column.names[dims[place]]}', and at {int(spikes.any(axis=1).sum()) - 1} other frames",
        **rounded({"column": key, "dimension": int(dims[place]), "frame": frame + 1, "off": float(size[frame, place])}),
    )
    step = max(1, round(SPAN * fps))
    seconds, allowed = step / fps, np.ones(len(dims), dtype=bool)
    orders = (("velocity", 1, "rad/s"), ("acceleration", 2, "rad/s2"), ("jerk", 3, "rad/s3"))
    derivative = values
    for name, order, unit in orders[: 3 if short == "action" else 1]:
        if len(derivative) <= step:
            return
        derivative = (derivative[step:] - derivative[:-step]) / seconds
        limit = column.velocity[dims] if order == 1 else np.full(len(dims), thresholds[f"action_{name}"])
        ratio = np.abs(derivative).max(axis=0) / limit
        place = int(np.argmax(np.where(allowed, ratio, -1)))
        frame = int(np.argmax(np.abs(derivative[:, place])))
        row.measure(
            f"{short}_{name}_ratio",
            ratio[place] if allowed.any() else None,
            f"the {name} of column '{key}' is {abs(derivative[frame, place]):.3g} {unit} at frame {frame} in "
            f"'{column.names[dims[place]]}', its limit is {limit[place]:g}",
            **rounded({"column": key, "dimension": int(dims[place]), "frame": frame}),
        )
        allowed &= ratio <= 1


def _without_spikes(values: np.ndarray, floor: float, ratio: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values with lone spikes replaced, where they are and how far they are off: [L - 2, D], from frame 1 on.

    Off is the distance to the median of a frame and its two neighbours. A joint that shakes all the time has no spikes:
    one must also be `ratio` times what four of five frames deviate.
    """
    before, here, after = values[:-2], values[1:-1], values[2:]
    median = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), here))
    size = np.abs(here - median)
    if size.max() <= floor:
        return values, np.zeros_like(size, dtype=bool), size
    usual = np.quantile(size, 0.8, axis=0)
    spikes = (size > floor) & (size > ratio * usual)
    cleaned = values.copy()
    cleaned[1:-1][spikes] = median[spikes]
    return cleaned, spikes, np.where(spikes, size, 0)


def _measure_grippers(row: EpisodeSummary, joints: Joints) -> None:
    worst: tuple[float, str, int, int] | None = None
    for key in (STATE, ACTION):
        column = joints.columns[key]
        if key not in row.vectors or not len(column.grippers) or (key == ACTION and joints.relative):
            continue
        opening = (row.vectors[key][:, column.grippers] - column.closed) / (column.opened - column.closed)
        beyond = np.maximum(-opening, opening - 1)
        frame, place = map(int, np.unravel_index(np.argmax(beyond), beyond.shape))
        if worst is None or beyond[frame, place] > worst[0]:
            worst = (float(beyond[frame, place]), key, int(column.grippers[place]), frame)
    if worst is None:
        return
    beyond_by, key, dim, frame = worst
    row.measure(
        "gripper_beyond_range",
        max(0.0, beyond_by),
        f"column '{key}' is {row.vectors[key][frame, dim]:.4g} at frame {frame} in '{joints.columns[key].names[dim]}', "
        f"{beyond_by:.2g} of the gripper's range outside of it",
        column=key,
        dimension=dim,
        frame=frame,
    )
