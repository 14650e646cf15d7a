"""Statistics and normalisation: parity with the released normaliser, exact inverses, mergeable streaming figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file

from model.data.normalization import MODES, Normalize, Statistics, StatisticsAccumulator
from model.errors import UserError


def statistics_of(values: np.ndarray) -> Statistics:
    accumulator = StatisticsAccumulator()
    accumulator.add(values)
    return accumulator.result()


def only_quantiles(q01: np.ndarray, q99: np.ndarray) -> Statistics:
    other = np.zeros_like(q01)
    return Statistics(count=1, mean=other, std=other, min=other, max=other, q01=q01, q99=q99, q02=other, q98=other)


@pytest.mark.parametrize("key", ["state", "action"])
def test_matches_the_released_normaliser(shared: Path, key: str) -> None:
    fixture = load_file(shared / "parity/vla/preprocess.safetensors")
    statistics = only_quantiles(fixture[f"q01_{key}"], fixture[f"q99_{key}"])
    normalize = Normalize(statistics, "bounds_99_woclip")
    np.testing.assert_allclose(normalize(fixture[f"norm_{key}_in"]), fixture[f"norm_{key}_out"], atol=2e-6, rtol=1e-6)
    np.testing.assert_allclose(normalize.inverse(normalize(fixture[f"norm_{key}_in"])), fixture[f"norm_{key}_in"])


def test_figures_equal_numpy() -> None:
    values = np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)
    statistics = statistics_of(values)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, exact.std(0), rtol=1e-12)
    for name, q in {"q01": 0.01, "q99": 0.99, "q02": 0.02, "q98": 0.98}.items():
        np.testing.assert_allclose(getattr(statistics, name), np.quantile(exact, q, axis=0), rtol=1e-12)
    assert (statistics.min == values.min(0)).all() and (statistics.max == values.max(0)).all()
    assert statistics.count == 500


@settings(max_examples=40, deadline=None)
@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-1e3, 1e3, width=32)),
    cuts=st.lists(st.integers(0, 40), max_size=4),
)
def test_shards_merge_to_the_figures_of_the_whole(values: np.ndarray, cuts: list[int]) -> None:
    merged = StatisticsAccumulator()
    for block in np.split(values, sorted(min(cut, len(values)) for cut in cuts)):
        shard = StatisticsAccumulator()
        shard.add(block)
        merged.merge(shard)
    whole = statistics_of(values)
    result = merged.result()
    np.testing.assert_allclose(result.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(result.std, whole.std, atol=1e-6)
    assert (result.q01 == whole.q01).all() and (result.max == whole.max).all() and result.count == len(values)


def test_mean_and_std_hold_far_from_zero() -> None:
    values = (1e4 + np.random.default_rng(1).normal(0, 1e-2, (4000, 1))).astype(np.float32)
    np.testing.assert_allclose(statistics_of(values).std, values.astype(np.float64).std(0), rtol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_inverse_is_exact(mode: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(
        values=arrays(
            np.float64, array_shapes(max_dims=3, max_side=4).map(lambda s: (*s, 3)), elements=st.floats(-50, 50)
        )
    )
    def check(values: np.ndarray) -> None:
        reference = np.random.default_rng(2).uniform(-40, 40, (200, 3)).astype(np.float32)
        statistics = statistics_of(reference)
        if mode in ("minmax", "bounds_99", "bounds_98"):  # what a clipping mode cut off cannot come back
            values = values.clip(statistics.min, statistics.max)
        normalize = Normalize(statistics, mode)
        np.testing.assert_allclose(normalize.inverse(normalize(values)), values, atol=1e-10)

    check()


@pytest.mark.parametrize(("mode", "limit"), [("minmax", 1.0), ("bounds_99", 1.5), ("bounds_98", 1.5)])
def test_clipping_modes_clip_and_their_twins_do_not(mode: str, limit: float) -> None:
    statistics = statistics_of(np.linspace(-1, 1, 101, dtype=np.float32)[:, None])
    far = np.array([[-9.0], [9.0]])
    np.testing.assert_allclose(Normalize(statistics, mode)(far), [[-limit], [limit]])
    assert (np.abs(Normalize(statistics, f"{mode}_woclip")(far)) > 5).all()


def test_dtype_is_kept_and_integers_become_floats() -> None:
    normalize = Normalize(statistics_of(np.random.default_rng(3).normal(size=(50, 2)).astype(np.float32)))
    assert normalize(np.zeros((4, 2), np.float32)).dtype == np.float32
    assert normalize(np.zeros((4, 2), np.int64)).dtype == np.float64


def test_statistics_of_each_step_broadcast() -> None:
    flat = statistics_of(np.random.default_rng(4).normal(size=(60, 6)).astype(np.float32))
    chunk = Statistics.from_json(
        {"count": 60}
        | {name: np.reshape(value, (3, 2)).tolist() for name, value in flat.to_json().items() if name != "count"}
    )
    actions = np.random.default_rng(5).normal(size=(5, 3, 2))
    expected = Normalize(flat)(actions.reshape(5, 6)).reshape(5, 3, 2)
    np.testing.assert_allclose(Normalize(chunk)(actions), expected)


def test_json_round_trip_is_exact() -> None:
    statistics = statistics_of(np.random.default_rng(6).normal(size=(40, 3)).astype(np.float32))
    normalize = Normalize(statistics, "bounds_98", epsilon=1e-3)
    again = Normalize.from_json(json.loads(json.dumps(normalize.to_json())))
    assert again == normalize and hash(again.statistics) == hash(statistics)


def test_errors_name_the_value_and_the_fix() -> None:
    statistics = statistics_of(np.ones((3, 2), np.float32))
    with pytest.raises(UserError, match="'meanstdd'.*Did you mean 'meanstd'"):
        Normalize(statistics, "meanstdd")
    with pytest.raises(UserError, match="2 dimensions"):
        Normalize(statistics)(np.zeros((4, 3)))
    with pytest.raises(UserError, match="epsilon 0"):
        Normalize(statistics, epsilon=0)
    with pytest.raises(UserError, match="row 1, dimension 0"):
        StatisticsAccumulator().add(np.array([[0.0], [np.nan]]))
    with pytest.raises(UserError, match="q98 missing"):
        Statistics.from_json({name: value for name, value in statistics.to_json().items() if name != "q98"})
    with pytest.raises(UserError, match="no values"):
        StatisticsAccumulator().result()
