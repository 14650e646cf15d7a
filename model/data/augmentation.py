"""Augmentation of images: brightness, contrast and saturation of whole samples, and crops. Pure functions of (images,
random); the views of a sample change together, as they would under one lamp.
"""

from dataclasses import dataclass

import numpy as np

from model.data.transforms import ResizeImage
from model.errors import UserError

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class Photometric:
    """Brightness shifted by up to `brightness` of full scale; contrast and saturation scaled by 1 +- their share.

    The geometry stays, so stored depth tokens still fit (DESIGN section 6). At saturation 0 it is one table of 256
    values a sample.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}: it is a share, so choose 0 to 1.")

    def __call__(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """uint8 [B, V, H, W, 3] to uint8 of the same shape."""
        levels = np.arange(256, dtype=np.float32)
        contrast = 1 + self.contrast * random.uniform(-1, 1, len(images))
        shift = 255 * self.brightness * random.uniform(-1, 1, len(images))
        tables = (levels - 127.5) * contrast[:, None] + 127.5 + shift[:, None]
        tables = tables.round().clip(0, 255).astype(np.uint8)
        changed = np.stack([table[image] for table, image in zip(tables, images, strict=True)])
        if self.saturation:
            scale = 1 + self.saturation * random.uniform(-1, 1, len(images)).astype(np.float32)
            for image, factor in zip(changed, scale, strict=True):
                grey = (image @ LUMA)[..., None]
                image[...] = (grey + (image - grey) * factor).round().clip(0, 255).astype(np.uint8)
        return changed


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """A square window of at least 1 - `share` of each side, at the same place in all views, resized back.

    It moves what is seen: not with stored depth tokens.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UserError(f"crop is {self.share}: it is the share of a side that may go, so choose 0 to below 1.")

    def __call__(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """uint8 [B, V, S, S, 3] to uint8 of the same shape."""
        size = images.shape[-2]
        resize = ResizeImage(size)
        cropped = np.empty_like(images)
        for place, views in enumerate(images):
            side = round(size * (1 - self.share * random.random()))
            top, left = random.integers(0, size - side + 1, 2)
            cropped[place] = resize(np.ascontiguousarray(views[:, top : top + side, left : left + side]))
        return cropped
