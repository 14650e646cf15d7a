"""Augmentation: what it changes and what it leaves, the same for all views of a sample, and repeatable."""

import numpy as np
import pytest

from model.data.augmentation import LUMA, Photometric, RandomCrop
from model.errors import UserError


def pictures(seed: int = 0, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 220, (count, 2, 16, 16, 3), dtype=np.uint8)


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_nothing_asked_for_changes_nothing() -> None:
    images = pictures()
    np.testing.assert_array_equal(Photometric()(images, drawn()), images)
    np.testing.assert_array_equal(RandomCrop(share=0.0)(images, drawn()), images)


def test_brightness_shifts_a_whole_sample_by_at_most_its_share() -> None:
    images = pictures()
    changed = Photometric(brightness=0.1)(images, drawn()).astype(int) - images
    for sample in changed:
        assert len(np.unique(sample)) == 1 and abs(sample.flat[0]) <= 26
    assert len({int(sample.flat[0]) for sample in changed}) > 1


def test_contrast_turns_about_the_middle() -> None:
    images = np.stack([np.full((1, 4, 4, 3), level, np.uint8) for level in (50, 127, 200)])
    changed = [Photometric(contrast=0.5)(np.repeat(image[None], 4, 0), drawn()) for image in images]
    low, middle, high = (values.reshape(4, -1)[:, 0].astype(int) for values in changed)
    assert (np.abs(middle - 127) <= 1).all()
    np.testing.assert_allclose((high - 127.5) / 72.5, (low - 127.5) / -77.5, atol=0.02)


def test_saturation_keeps_brightness_and_grey() -> None:
    images = pictures()
    changed = Photometric(saturation=0.5)(images, drawn())
    assert (changed != images).any()
    inside = ((changed > 0) & (changed < 255)).all(-1)
    np.testing.assert_allclose((changed @ LUMA)[inside], (images @ LUMA)[inside], atol=1.0)
    grey = np.repeat(pictures()[..., :1], 3, -1)
    assert np.abs(Photometric(saturation=0.5)(grey, drawn()).astype(int) - grey).max() <= 1


def test_a_crop_is_a_window_of_the_image_at_one_place_in_all_views() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (64, 64, 3))
    images = np.repeat(np.stack([ramp, ramp])[None], 5, 0)
    cropped = RandomCrop(share=0.5)(images, drawn())
    assert cropped.shape == images.shape
    np.testing.assert_array_equal(cropped[:, 0], cropped[:, 1])
    spans = [int(sample[0, 0, -1, 0]) - int(sample[0, 0, 0, 0]) for sample in cropped]
    assert all(85 < span <= 189 for span in spans) and len(set(spans)) > 2


def test_equal_draws_give_equal_images() -> None:
    light, crop = Photometric(brightness=0.1, contrast=0.1, saturation=0.2), RandomCrop(share=0.3)
    np.testing.assert_array_equal(light(pictures(), drawn(5)), light(pictures(), drawn(5)))
    np.testing.assert_array_equal(crop(pictures(), drawn(5)), crop(pictures(), drawn(5)))


def test_shares_are_shares() -> None:
    with pytest.raises(UserError, match="contrast is 1.5"):
        Photometric(contrast=1.5)
    with pytest.raises(UserError, match="crop is 1"):
        RandomCrop(share=1)
