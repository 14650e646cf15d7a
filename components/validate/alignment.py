"""Whether the views and the joints of an episode are in step, by cross-correlation of their motion.

How much a picture changes from frame to frame is told by how fast the joints move: with weights fitted over all
episodes of a camera (ridge regression at no lag), the joints predict the motion of the view. Both are high-passed, for
the slow part of a motion does not tell its moment. The lag at which prediction and picture correlate best is the lag of
the view. Two views are compared through the joints, as a wrist camera and a camera above it move at other times.

On 240 simulated episodes at 10 fps a lag of 3 frames is found in 8 of 10 views from above and in 1 of 4 at the wrists
(an idle arm's view does not move), of all three views together in 95 of 100; nothing that is in step is accused.
"""

from collections.abc import Sequence

import numpy as np

from components.validate.measure.joints import Joints
from components.validate.summary import EpisodeSummary
from components.validate.thresholds import Thresholds
from model.data.lerobot import STATE

SLOW = 0.9  # seconds: the moving average that is taken out
REACH = 0.5  # seconds of lag that are looked at: beyond, motions that repeat look alike
RIDGE = 0.01
TOGETHER = 0.7  # of the thresholds of one view: the mean over several is smoother
SHORTEST = 3.0  # seconds of an episode


def remember_motion(row: EpisodeSummary, joints: Joints, fps: float) -> None:
    """Keeps the high-passed motion of the joints and of each view; half precision is plenty for a correlation."""
    state = row.vectors.get(STATE)
    arm = joints.columns[STATE].arm
    if state is None or not len(arm) or len(state) < SHORTEST * fps:
        return
    width = 2 * round(SLOW * fps / 2) + 1
    row.traits["joint motion"] = _fast(np.sqrt(np.abs(np.diff(state[:, arm], axis=0))), width).astype(np.float32)
    for camera, seen in row.scans.items():
        if seen.frames == len(state):
            row.traits[f"motion {camera}"] = _fast(np.sqrt(seen.change)[:, None], width)[:, 0].astype(np.float32)


def measure_steps(rows: Sequence[EpisodeSummary], thresholds: Thresholds, fps: float) -> None:
    """Measures `view_lag` (a view against the other views) and `video_lag` (all views against the table)."""
    curves: dict[int, dict[str, np.ndarray]] = {}
    reach = max(3, round(REACH * fps))
    for camera in dict.fromkeys(camera for row in rows for camera in row.scans):
        chosen = [row for row in rows if f"motion {camera}" in row.traits]
        if not chosen:
            continue
        weights = _weights([(row.traits["joint motion"], row.traits[f"motion {camera}"]) for row in chosen])
        for row in chosen:
            motion, predicted = row.traits[f"motion {camera}"], row.traits["joint motion"] @ weights
            curve = [_correlation(motion, predicted, shift) for shift in range(-reach, reach + 1)]
            curves.setdefault(row.episode, {})[camera] = np.array(curve)
    for row in rows:
        if row.episode in curves and not row.faulty("static_episode"):
            _judge_lags(row, curves[row.episode], thresholds, fps)


def _judge_lags(row: EpisodeSummary, curves: dict[str, np.ndarray], thresholds: Thresholds, fps: float) -> None:
    """All views late alike: the table is out of step with them. One of them: that view is."""
    together = np.mean(list(curves.values()), axis=0)
    common = _lag(together, thresholds, TOGETHER if len(curves) > 1 else 1.0)
    reach = len(together) // 2
    if common and len(curves) > 1:
        place = reach + common
        first = max(curves, key=lambda name: curves[name][place])
        rest = np.mean([curve for name, curve in curves.items() if name != first], axis=0)
        if rest[place] <= rest[reach]:
            common = 0
    if common is not None:
        row.measure(
            "video_lag",
            abs(common) / fps,
            f"its views are {abs(common)} frames {'behind' if common > 0 else 'ahead of'} the joints",
            column=STATE,
            dimension=0,
            frames=common,
        )
    if len(curves) == 1:
        return
    lags = {camera: _lag(curve, thresholds, 1.0) for camera, curve in curves.items()}
    apart = {camera: lag - (common or 0) for camera, lag in lags.items() if lag is not None}
    if not apart:
        return
    camera = max(apart, key=lambda name: abs(apart[name]))
    lag = apart[camera]
    row.measure(
        "view_lag",
        abs(lag) / fps,
        f"'{camera}' is {abs(lag)} frames {'behind' if lag > 0 else 'ahead of'} the other views (its motion correlates "
        f"{curves[camera].max():.2f} with the joints there)",
        column=STATE,
        dimension=0,
        camera=camera,
        frames=lag,
    )


def _lag(curve: np.ndarray, thresholds: Thresholds, share: float) -> int | None:
    """The lag in frames that a curve of correlations tells; None where it tells none.

    Args:
        share: of the thresholds: the mean of several views is smoother, and lower.
    """
    reach = len(curve) // 2
    best = int(np.argmax(curve))
    if curve[best] < share * thresholds["step_correlation"]:
        return None
    second = float(curve[np.abs(np.arange(len(curve)) - best) > 1].max())
    margin, contrast = share * thresholds["step_margin"], share * thresholds["step_contrast"]
    if best != reach and (curve[best] - curve[reach] < margin or curve[best] - second < contrast):
        return None
    return best - reach


def _correlation(motion: np.ndarray, predicted: np.ndarray, shift: int) -> float:
    late, early = (
        (motion[shift:], predicted[: len(predicted) - shift]) if shift >= 0 else (motion[:shift], predicted[-shift:])
    )
    scale = float(np.sqrt((late @ late) * (early @ early)))
    return float(late @ early) / scale if scale > 1e-12 else 0.0


def _weights(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    # Each episode weighs the same, so that a noisy view does not decide for all.
    gram, target = 0.0, 0.0
    for joints, motion in pairs:
        scale = max(float(motion @ motion), 1e-6)
        gram, target = gram + joints.T @ joints / scale, target + joints.T @ motion / scale
    size = len(np.atleast_1d(target))
    ridge = RIDGE * float(np.trace(gram)) / size + 1e-9
    return np.linalg.solve(gram + ridge * np.eye(size), target)


def _fast(values: np.ndarray, width: int) -> np.ndarray:
    """Values less their moving average over `width` frames; the ends are repeated."""
    half = width // 2
    padded = np.pad(values, ((half + 1, half), (0, 0)), mode="edge")
    total = np.cumsum(padded, axis=0, dtype=np.float64)
    return values - (total[width:] - total[:-width])[: len(values)] / width
