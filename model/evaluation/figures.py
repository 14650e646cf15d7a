"""Pictures of an evaluation: filmstrips and moving pictures of trials, camera views with depth, predicted curves.

Equal inputs give equal bytes: no dates, no program names, fixed sizes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.evaluation.open_loop import Chunks

Frames = Sequence[Mapping[str, np.ndarray]]
GAP = 4
STRIP_COLUMNS = 8


def filmstrip(frames: Frames, columns: int = STRIP_COLUMNS) -> tuple[np.ndarray, list[int]]:
    """One row a camera, moments from left to right, as uint8 [H, W, 3], with the number of the frame in each column."""
    chosen = sorted({round(float(i)) for i in np.linspace(0, len(frames) - 1, min(columns, len(frames)))})
    rows = [[frames[i][camera] for i in chosen] for camera in frames[0]]
    return mosaic(rows), chosen


def mosaic(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures uint8 [h, w, 3] of one size in a grid, white between them; rows may differ in length."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            canvas[r * (height + GAP) :, c * (width + GAP) :][:height, :width] = picture
    return canvas


def depth_range(pictures: Sequence[np.ndarray]) -> tuple[float, float]:
    """Metres between which almost all of the depth in these pictures lies."""
    values = np.concatenate([picture[picture > 0] for picture in pictures])
    near, far = np.percentile(values, (1, 99)) if len(values) else (0.0, 0.0)
    return float(near), float(max(far, near + 0.01))


def depth_picture(depth: np.ndarray, near_far: tuple[float, float]) -> np.ndarray:
    """Metres [H, W] as colour uint8 [H, W, 3]: bright is near, black is no return."""
    from matplotlib import colormaps

    near, far = near_far
    closeness = np.clip((far - depth) / (far - near), 0, 1)
    colour = (colormaps["magma"](0.1 + 0.9 * closeness)[..., :3] * 255).round().astype(np.uint8)
    colour[depth <= 0] = 0
    return colour


def save_picture(path: Path, picture: np.ndarray) -> None:
    """PNG of uint8 [H, W, 3]."""
    from PIL import Image

    Image.fromarray(picture).save(path, "PNG", optimize=True)


def save_animation(path: Path, frames: Frames, fps: float) -> None:
    """Animated WebP, the cameras side by side, at the speed of the simulation; the last picture stays for a second."""
    from PIL import Image

    pictures = [Image.fromarray(mosaic([list(frame.values())])) for frame in frames]
    durations = [round(1000 / fps)] * (len(pictures) - 1) + [1000]
    pictures[0].save(
        path, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=70, method=4
    )


def save_open_loop(path: Path, chunks: "Chunks", names: Sequence[str], fps: float, panels: int = 16) -> None:
    """Predicted chunks over the recorded actions of one episode, a panel a joint; the most moving joints when many."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    time = (chunks.frame[:, None] + np.arange(chunks.predicted.shape[1])) / fps
    spans = np.ptp(chunks.recorded[chunks.valid], axis=0)
    dims = sorted(np.argsort(-spans, kind="stable")[:panels].tolist())
    least_span = 0.15 * float(spans.max())  # a joint at rest must look at rest
    columns = min(4, len(dims))
    rows = -(-len(dims) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.1 * columns, 1.75 * rows), sharex=True, squeeze=False)
    for axis in axes.flat[len(dims) :]:
        axis.remove()
    for axis, dim in zip(axes.flat, dims, strict=False):
        axis.plot(time[chunks.valid], chunks.recorded[chunks.valid][:, dim], color="#8a8f98", linewidth=2.4)
        for n in range(len(chunks.frame)):
            valid = chunks.valid[n]
            axis.plot(time[n, valid], chunks.predicted[n, valid, dim], color="#2f6fde", linewidth=1.2)
            axis.plot(time[n, :1], chunks.predicted[n, :1, dim], color="#2f6fde", marker="o", markersize=3)
        low, high = axis.get_ylim()
        missing = max(0.0, least_span - (high - low))
        axis.set_ylim(low - missing / 2, high + missing / 2)
        axis.set_title(names[dim], fontsize=8, loc="left")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
