"""What each camera's pictures look like in training: a thumbnail's mean and spread, small enough for the bundle.

A served policy can then tell that it is shown something else: two cameras swapped, colours in another order, a lens
that is covered. A thumbnail is the mean colour of 8x8 fields, 192 numbers, of a picture of any size.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from model.data.normalization import Statistics, StatisticsAccumulator

if TYPE_CHECKING:
    from model.data.packed import PackedDataset

GRID = 8
SAMPLES = 512  # frames; three views of 112 px decode in about a second
_BATCH = 64
_PIXELS = 4  # of a field's side that are read: at 224 px 28, of which every seventh is enough
_SIDE = GRID * _PIXELS
# Means of four neighbours. Sixteenths of whole numbers are exact in float32, so no order of adding matters.
_POOL = np.kron(np.eye(GRID, dtype=np.float32), np.full((1, _PIXELS), 1.0 / _PIXELS, dtype=np.float32))


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Mean colour of each field: uint8 [H,W,3] to f32 [GRID, GRID, 3], 0 to 255.

    Of a large picture a regular sample of pixels is read: some 30 microseconds whatever its size.
    """
    height, width = image.shape[:2]
    picked = image[_sampled(height)][:, _sampled(width)].astype(np.float32)
    rows = _POOL @ picked.reshape(_SIDE, _SIDE * 3)
    return np.matmul(_POOL, rows.reshape(GRID, _SIDE, 3))


def view_statistics(packed: "PackedDataset", samples: int = SAMPLES) -> dict[str, Statistics]:
    """Statistics [GRID * GRID * 3] of the thumbnails of each camera, by `view_key`, over evenly spaced training frames.

    A camera without any picture is left out.
    """
    rows = packed.rows()
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(samples, len(rows))).astype(np.int64))]
    found = [StatisticsAccumulator() for _ in packed.meta.cameras]
    for first in range(0, len(rows), _BATCH):
        batch = packed.batch(rows[first : first + _BATCH], 1)
        for view, accumulator in enumerate(found):
            images = batch["images"][batch["image_mask"][:, view], view]
            if len(images):
                accumulator.add(np.stack([thumbnail(image).ravel() for image in images]))
    return {
        view_key(camera): accumulator.result()
        for camera, accumulator in zip(packed.meta.cameras, found, strict=True)
        if accumulator.count
    }


def view_key(camera: str) -> str:
    """Where a bundle's statistics hold those of a camera."""
    return f"observation.images.{camera}"


@lru_cache(maxsize=64)
def _sampled(size: int) -> np.ndarray:
    """Coordinates of the pixels that are read along one axis: as many in each field."""
    if size <= _SIDE:
        return np.linspace(0, size - 1, _SIDE).round().astype(np.int64)
    edges = np.linspace(0, size, _SIDE + 1)
    return ((edges[:-1] + edges[1:]) / 2).astype(np.int64)
