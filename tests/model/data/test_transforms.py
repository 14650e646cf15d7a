"""Transforms: placement in the canonical vector, chains and their inverses, image resizing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.normalization import Normalize, StatisticsAccumulator
from model.data.transforms import Chain, ResizeImage, ToCanonical, transform_from_json
from model.errors import UserError

ALOHA_SLOTS = (0, 1, 2, 3, 4, 5, 14, 7, 8, 9, 10, 11, 12, 15)


@settings(max_examples=40, deadline=None)
@given(slots=st.lists(st.integers(0, 74), min_size=1, max_size=20, unique=True), lead=st.integers(1, 3))
def test_canonical_inverse_is_exact_and_the_rest_is_zero(slots: list[int], lead: int) -> None:
    place = ToCanonical(tuple(slots))
    values = np.random.default_rng(0).normal(size=(lead, 2, len(slots))).astype(np.float32)
    canonical = place(values)
    assert canonical.shape == (lead, 2, 75) and canonical.dtype == np.float32
    assert (place.inverse(canonical) == values).all()
    assert (canonical[..., ~place.mask] == 0).all() and place.mask.sum() == len(slots)


def test_a_dimension_lands_in_its_slot() -> None:
    canonical = ToCanonical(ALOHA_SLOTS)(np.arange(1.0, 15.0))
    assert canonical[14] == 7 and canonical[15] == 14 and canonical[7] == 8 and canonical[6] == 0


def test_chain_normalises_then_places_and_comes_back() -> None:
    accumulator = StatisticsAccumulator()
    accumulator.add(np.random.default_rng(1).normal(size=(100, 14)).astype(np.float32))
    chain = Chain((Normalize(accumulator.result(), "meanstd"), ToCanonical(ALOHA_SLOTS)))
    values = np.random.default_rng(2).normal(size=(3, 5, 14))
    np.testing.assert_allclose(chain.inverse(chain(values)), values, atol=1e-12)
    again = transform_from_json(json.loads(json.dumps(chain.to_json())))
    assert again == chain
    assert (again(values) == chain(values)).all()


def test_resize_squashes_with_anti_aliasing() -> None:
    stripes = np.zeros((96, 128, 3), np.uint8)
    stripes[:, ::2] = 255  # every second column: without anti-aliasing this would alias to black or white
    small = ResizeImage(32)(stripes)
    assert small.shape == (32, 32, 3) and small.dtype == np.uint8
    assert np.abs(small.astype(int) - 127).max() < 20
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 200
    assert (ResizeImage(20)(halves)[:, :9] == 0).all() and (ResizeImage(20)(halves)[:, 11:] == 200).all()


def test_resize_passes_the_right_size_unchanged_and_takes_batches() -> None:
    images = np.random.default_rng(3).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    assert ResizeImage(16)(images) is images
    batch = ResizeImage(8)(images)
    assert batch.shape == (2, 3, 8, 8, 3) and (batch[1, 2] == ResizeImage(8)(images[1, 2])).all()
    assert transform_from_json(ResizeImage(8).to_json()) == ResizeImage(8)


def test_errors_name_the_value_and_the_fix() -> None:
    with pytest.raises(UserError, match=r"\[75\].*0 to 74"):
        ToCanonical((0, 75))
    with pytest.raises(UserError, match=r"\[3\] are given twice"):
        ToCanonical((3, 3))
    with pytest.raises(UserError, match="2 dimensions"):
        ToCanonical((0, 1))(np.zeros(3))
    with pytest.raises(UserError, match="canonical"):
        ToCanonical((0, 1)).inverse(np.zeros(3))
    with pytest.raises(UserError, match="Did you mean 'ToCanonical'"):
        transform_from_json({"type": "ToCanonicall"})
    with pytest.raises(UserError, match="uint8"):
        ResizeImage(8)(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(UserError, match="at least 1"):
        ResizeImage(0)
