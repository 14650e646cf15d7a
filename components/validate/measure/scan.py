"""One pass over the frames of one view: what the picture rules need, from the luma plane at low resolution.

The planes are taken as the decoder left them, so nothing is converted: at 480x640 the pass costs about half a
millisecond a frame beside the decoding. Sharpness is read from whole rows of the full plane, before they are averaged.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

WIDTH = 48  # columns of the low resolution, at least; a plane is averaged over squares of whole pixels
ROWS = 24  # of the full plane, at least: every so many rows are looked at for sharpness, each eighth at most
REACH = 8  # pixels: an edge rises over one in a sharp picture, over all of these in a blurred one
LARGEST = 80  # side of a square: 3 x 80 values of 255 still add up in 16 bits
BLOCK = 2**19  # pixels that are reduced together: small enough for a cache, large enough for numpy
COLOUR_STEP = 4  # frames: the mean colour of a view is read from each fourth
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
    sharp: list[np.ndarray] = []
    colour: list[tuple[float, float]] = []
    block: list[np.ndarray] = []
    broadcast = False
    for index, frame in enumerate(frames):
        luma, planes, broadcast = _planes(frame)
        block.append(luma)
        if index % COLOUR_STEP == 0 and planes:
            colour.append((float(planes[0][::4, ::4].mean()), float(planes[1][::4, ::4].mean())))
        if len(block) * luma.size >= BLOCK:
            _finish(block, small, sharp)
    _finish(block, small, sharp)
    stack = np.concatenate(small)
    if broadcast:  # of the small picture alone: black is 16 there and white 235
        stack = _BROADCAST[stack]
    pixels = stack.reshape(len(stack), -1)
    change, peak = _changes(pixels)
    near, far, second = np.concatenate(sharp, axis=1)
    level = np.add.reduce(pixels, axis=1, dtype=np.uint32) / np.float32(pixels.shape[1])
    squares = np.einsum("lp,lp->l", pixels, pixels, dtype=np.float32, casting="unsafe") / pixels.shape[1]
    return Scan(
        level=level.astype(np.float32),
        contrast=np.sqrt(np.maximum(squares - level**2, 0)).astype(np.float32),
        change=change,
        peak=peak,
        detail=np.where(far > 0.05, near / np.maximum(far, 1e-6), np.nan).astype(np.float32),
        noise=np.sqrt(second),
        chroma=np.array(colour, dtype=np.float32).mean(axis=0) if colour else np.full(2, np.nan, np.float32),
        thumbnail=_thumbnail(np.add.reduce(stack, axis=0, dtype=np.uint32) / len(stack)),
        digest=hashlib.sha256(pixels.tobytes()).hexdigest(),
    )


def _planes(frame: Any) -> tuple[np.ndarray, list[np.ndarray], bool]:
    """Luma uint8 [H, W], the two colour planes where there are any, and whether black is 16 in the luma."""
    if isinstance(frame, np.ndarray):
        pixels = frame.astype(np.float32)
        luma = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        colours = [128 + (pixels[..., channel] - luma) / scale for channel, scale in ((2, 1.772), (0, 1.402))]
        return np.rint(luma).astype(np.uint8), colours, False
    if frame.format.name not in ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"):
        return frame.to_ndarray(format="gray"), [], False
    luma, *colours = (_plane(plane) for plane in frame.planes)
    return luma, colours, frame.color_range != FULL_RANGE


_BROADCAST = np.clip(np.rint((np.arange(256) - 16.0) * 255 / 219), 0, 255).astype(np.uint8)


def _plane(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _finish(block: list[np.ndarray], small: list[np.ndarray], sharp: list[np.ndarray]) -> None:
    """Reduces the luma planes of `block` together, and empties it."""
    if not block:
        return
    luma = np.stack(block)
    block.clear()
    small.append(_shrink(luma))
    sharp.append(_edges(luma))


def _shrink(luma: np.ndarray) -> np.ndarray:
    """[N, H, W] averaged over squares of k x k pixels (of two or three of their rows where k is 4 or more)."""
    height, width = luma.shape[1:]
    k = max(1, min(width // WIDTH, height // 8, LARGEST))
    if k == 1:
        return luma
    rows, columns = height // k, width // k
    cut = luma[:, : rows * k, : columns * k]
    # Sums of strided slices: numpy's reduce over a short last axis takes five times as long.
    lines = range(0, k, max(1, k // 2))
    added = cut[:, lines[0] :: k].astype(np.uint16)
    for line in lines[1:]:
        added += cut[:, line::k]
    total = added[:, :, ::k].copy()
    for column in range(1, k):
        total += added[:, :, column::k]
    count = len(lines) * k
    return ((total + count // 2) // count).astype(np.uint8)


def _edges(luma: np.ndarray) -> np.ndarray:
    """Float32 [3, N]: mean squares of the differences of pixels 1 and `REACH` apart, and of the second difference."""
    step = max(1, min(8, luma.shape[1] // ROWS))
    rows = luma[:, step // 2 :: step].astype(np.float32)
    if rows.shape[2] <= REACH:
        return np.zeros((3, len(luma)), np.float32)
    near, far = rows[:, :, 1:] - rows[:, :, :-1], rows[:, :, REACH:] - rows[:, :, :-REACH]
    second = near[:, :, 1:] - near[:, :, :-1]
    squares = [np.einsum("nhw,nhw->n", part, part) / part[0].size for part in (near, far, second)]
    return np.stack(squares).astype(np.float32)


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
    for axis in (0, 1):
        size = picture.shape[axis]
        starts = np.arange(min(THUMBNAIL, size)) * size // min(THUMBNAIL, size)
        counts = np.diff(np.append(starts, size))
        picture = np.add.reduceat(picture, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
    return picture.astype(np.float32)
