"""One pass over the frames of one view: what the picture rules need, from the luma plane at low resolution.

The planes are taken as the decoder left them, so nothing is converted: at 480x640 the pass costs about half a
millisecond a frame beside the decoding. Sharpness is read from whole rows of the full plane, before they are averaged.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH = 64  # columns of the low resolution, at least; a plane is averaged over squares of whole pixels
ROW_STEP = 8  # of the full plane each eighth row is looked at for sharpness
REACH = 8  # pixels: an edge rises over one in a sharp picture, over all of these in a blurred one
THUMBNAIL = 16
FULL_RANGE = 2  # av.video.reformatter.ColorRange.JPEG: black is 0, where the broadcast range has 16


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A view of one episode of L frames. Grey levels are 0 to 255.

    Attributes:
        level: float32 [L], mean grey level.
        contrast: float32 [L], standard deviation of the grey levels of the low resolution.
        change: float32 [L - 1], mean absolute difference between neighbouring frames.
        peak: uint8 [L - 1], the largest such difference.
        detail: float32 [L], energy of differences between neighbouring pixels, as a fraction of that between pixels
            `REACH` apart: 1/8 for a sharp edge, 1/64 where everything rises slowly; NaN for a uniform picture.
        noise: float32 [L], root mean square of the second difference between neighbouring pixels.
        chroma: float32 [2], mean of the two colour planes over all frames; NaN without colour planes.
        thumbnail: float32 [16, 16], the mean picture.
        digest: of the low-resolution pictures; equal for equal videos.
    """

    level: np.ndarray
    contrast: np.ndarray
    change: np.ndarray
    peak: np.ndarray
    detail: np.ndarray
    noise: np.ndarray
    chroma: np.ndarray
    thumbnail: np.ndarray
    digest: str

    @property
    def frames(self) -> int:
        return len(self.level)


def scan(frames: Iterable[Any]) -> Scan:
    """Scans decoded frames (`av.VideoFrame`, or uint8 [H, W, 3] as an image column stores them); at least one."""
    small: list[np.ndarray] = []
    sharp: list[tuple[float, float, float]] = []
    colour: list[tuple[float, float]] = []
    for frame in frames:
        luma, chroma = _planes(frame)
        small.append(_shrink(luma))
        sharp.append(_edges(luma))
        colour.append(chroma)
    stack = np.stack(small)
    pixels = stack.reshape(len(stack), -1)
    change, peak = _changes(pixels)
    near, far, second = np.array(sharp, dtype=np.float32).T
    return Scan(
        level=pixels.mean(axis=1, dtype=np.float32),
        contrast=pixels.std(axis=1, dtype=np.float32),
        change=change,
        peak=peak,
        detail=np.where(far > 0.05, near / np.maximum(far, 1e-6), np.nan).astype(np.float32),
        noise=np.sqrt(second),
        chroma=np.array(colour, dtype=np.float32).mean(axis=0),
        thumbnail=_thumbnail(stack.mean(axis=0)),
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )


def _planes(frame: Any) -> tuple[np.ndarray, tuple[float, float]]:
    """Luma uint8 [H, W], and the means of the two colour planes."""
    if isinstance(frame, np.ndarray):
        luma = frame @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        red, blue = float((frame[..., 0] - luma).mean()), float((frame[..., 2] - luma).mean())
        return np.rint(luma).astype(np.uint8), (128 + blue / 1.772, 128 + red / 1.402)
    if frame.format.name not in ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"):
        return frame.to_ndarray(format="gray"), (np.nan, np.nan)
    planes = [_plane(plane) for plane in frame.planes]
    luma = planes[0] if frame.color_range == FULL_RANGE else _BROADCAST[planes[0]]
    return luma, (float(planes[1][::4, ::4].mean()), float(planes[2][::4, ::4].mean()))


_BROADCAST = np.clip(np.rint((np.arange(256) - 16.0) * 255 / 219), 0, 255).astype(np.uint8)


def _plane(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _shrink(luma: np.ndarray) -> np.ndarray:
    """Averages squares of k x k pixels (every second row of them where k is 4 or more)."""
    height, width = luma.shape
    k = max(1, min(width // WIDTH, height // 8))
    if k == 1:
        return luma
    rows, columns = height // k, width // k
    cut = luma[: rows * k, : columns * k].reshape(rows, k, columns * k)[:, :: max(1, k // 2)]
    added = np.add.reduce(cut, axis=1, dtype=np.uint16).reshape(rows, columns, k)
    count = cut.shape[1] * k
    return ((np.add.reduce(added, axis=2, dtype=np.uint32) + count // 2) // count).astype(np.uint8)


def _edges(luma: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of the differences of pixels 1 and `REACH` apart, and of the second difference, along rows."""
    step = ROW_STEP if luma.shape[0] >= 256 else 2
    rows = luma[step // 2 :: step].astype(np.float32)
    if rows.shape[1] <= REACH:
        return 0.0, 0.0, 0.0
    near, far = rows[:, 1:] - rows[:, :-1], rows[:, REACH:] - rows[:, :-REACH]
    second = near[:, 1:] - near[:, :-1]
    return tuple(float(np.vdot(part, part)) / part.size for part in (near, far, second))  # type: ignore[return-value]


def _changes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    change = np.zeros(len(pixels) - 1, np.float32)
    peak = np.zeros(len(pixels) - 1, np.uint8)
    for start in range(0, len(pixels) - 1, 256):  # int16 copies of 256 small frames: 2 MB at a time
        block = pixels[start : start + 257].astype(np.int16)
        difference = np.abs(np.diff(block, axis=0))
        change[start : start + len(difference)] = difference.mean(axis=1)
        peak[start : start + len(difference)] = difference.max(axis=1)
    return change, peak


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """The mean over THUMBNAIL x THUMBNAIL fields (fewer where the picture has fewer pixels)."""
    rows = np.array_split(np.arange(picture.shape[0]), min(THUMBNAIL, picture.shape[0]))
    columns = np.array_split(np.arange(picture.shape[1]), min(THUMBNAIL, picture.shape[1]))
    halves = np.stack([picture[part].mean(axis=0) for part in rows])
    return np.stack([halves[:, part].mean(axis=1) for part in columns], axis=1).astype(np.float32)
