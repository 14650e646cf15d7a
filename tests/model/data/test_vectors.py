"""Picking, padding and sine/cosine: exact inverses, masks, JSON, and errors."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.data.normalization import Normalize, StatisticsAccumulator
from model.data.transforms import Chain, ToCanonical, transform_from_json
from model.data.vectors import Pad, Pick, SinCos
from model.errors import UserError
from model.robots import UNIFIED_DIM, UNPLACED, load_robot

values = arrays(np.float64, st.tuples(st.integers(1, 3), st.just(2), st.just(5)), elements=st.floats(-3.14, 3.14))
some_dims = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True).map(tuple)


@settings(max_examples=40, deadline=None)
@given(values=values, dims=some_dims)
def test_angles_come_back_from_sine_and_cosine(values: np.ndarray, dims: tuple[int, ...]) -> None:
    turn = SinCos(dims, 5)
    turned = turn(values)
    assert turned.shape == (*values.shape[:-1], 5 + len(dims))
    np.testing.assert_allclose(turn.inverse(turned), values, atol=1e-12)
    np.testing.assert_allclose(turn.inverse(3 * turned)[..., list(dims)], values[..., list(dims)], atol=1e-12)


def test_a_full_turn_looks_the_same() -> None:
    turn = SinCos((0,), 1)
    np.testing.assert_allclose(turn(np.array([0.3])), turn(np.array([0.3 + 2 * np.pi])), atol=1e-12)
    assert abs(turn(np.array([np.pi - 1e-3])) - turn(np.array([-np.pi + 1e-3]))).max() < 3e-3


@settings(max_examples=40, deadline=None)
@given(values=values, dims=some_dims)
def test_picking_and_padding_come_back(values: np.ndarray, dims: tuple[int, ...]) -> None:
    pick, pad = Pick(dims, 5), Pad(5, 9)
    np.testing.assert_array_equal(pick(pick.inverse(pick(values))), values[..., list(dims)])
    np.testing.assert_array_equal(pad.inverse(pad(values)), values)
    assert (pad(values)[..., ~pad.mask] == 0).all() and pad.mask.sum() == 5
    for transform in (pick, pad, SinCos(dims, 5)):
        again = transform_from_json(json.loads(json.dumps(transform.to_json())))
        assert again == transform and (again(values) == transform(values)).all()


def test_a_robot_that_does_not_wholly_fit_the_55_dimensions_takes_part_with_the_rest() -> None:
    robot = load_robot("gr1")
    slots = robot.unified_action_slots
    dims = tuple(dim for dim, slot in enumerate(slots) if slot != UNPLACED)
    accumulator = StatisticsAccumulator()
    accumulator.add(np.random.default_rng(0).normal(size=(50, len(dims))).astype(np.float32))
    place = ToCanonical(tuple(slots[dim] for dim in dims), UNIFIED_DIM)
    chain = Chain((Pick(dims, len(slots)), Normalize(accumulator.result()), place))
    actions = np.random.default_rng(1).normal(size=(2, 3, 44))
    placed = chain(actions)
    assert placed.shape == (2, 3, 55) and (place.mask == robot.unified_action_mask).all()
    np.testing.assert_allclose(chain.inverse(placed)[..., list(dims)], actions[..., list(dims)], atol=1e-12)
    legs = [dim for dim in range(44) if dim not in dims]
    assert (chain.inverse(placed)[..., legs] == 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pick((0, 0), 3), "must be given once"),
        (lambda: Pick((3,), 3), "0 to 2"),
        (lambda: Pad(4, 3), "padding from 4 to 3"),
        (lambda: SinCos((5,), 5), "angles \\[5\\]"),
        (lambda: Pad(2, 3)(np.zeros(5)), "do not end in 2 dimensions"),
        (lambda: SinCos((0,), 2).inverse(np.zeros(2)), "do not end in 3 dimensions"),
    ],
)
def test_errors_name_the_value(make: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()  # type: ignore[operator]
