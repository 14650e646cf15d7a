"""The quantile sketch: its stated error, whatever the values, and shards that merge to the same bits in any order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.data.normalization import QUANTILES, StatisticsAccumulator
from model.data.sketch import RELATIVE_ERROR, QuantileSketch

SHARES = tuple(QUANTILES.values())
floats = st.floats(-1e6, 1e6, width=32)
columns = st.tuples(st.integers(1, 60), st.just(2))


def sketch_of(*blocks: np.ndarray) -> QuantileSketch:
    sketch = QuantileSketch()
    for block in blocks:
        sketch.add(block)
    return sketch


@settings(max_examples=60, deadline=None)
@given(values=arrays(np.float32, columns, elements=floats))
def test_every_quantile_is_within_the_stated_error(values: np.ndarray) -> None:
    found = sketch_of(values).quantiles(SHARES, 2)
    exact = np.quantile(values.astype(float), SHARES, axis=0)
    # the bound is of the two order statistics between which the quantile lies
    low = np.quantile(values.astype(float), SHARES, axis=0, method="lower")
    high = np.quantile(values.astype(float), SHARES, axis=0, method="higher")
    bound = RELATIVE_ERROR * np.maximum(np.abs(low), np.abs(high)) + 2.0**-130
    assert (np.abs(found - exact) <= bound * (1 + 1e-9)).all()


@settings(max_examples=30, deadline=None)
@given(values=arrays(np.float32, columns, elements=floats), data=st.data())
def test_shards_merge_to_the_same_bits_in_any_order(values: np.ndarray, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=4))
    blocks = data.draw(st.permutations([block for block in np.split(values, sorted(cuts)) if len(block)]))
    merged = QuantileSketch()
    for block in blocks:
        merged.merge(sketch_of(block))
    for ours, theirs in zip(merged.buckets, sketch_of(values).buckets, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (merged.quantiles(SHARES, 2) == sketch_of(values).quantiles(SHARES, 2)).all()


def test_compaction_keeps_every_count(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    values = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    monkeypatch.setattr("model.data.sketch._COMPACT_AT", 10)
    keys, counts = sketch_of(*np.split(values, 50)).buckets
    assert counts.sum() == values.size and (np.diff(keys) > 0).all()


def test_memory_is_of_buckets_not_of_values() -> None:
    """The stated 27,000: two signs, 13.3 binades, 1,024 buckets each."""
    random = np.random.default_rng(1)
    sketch = QuantileSketch()
    for _ in range(4):
        magnitude = np.exp(random.uniform(np.log(1e-3), np.log(10), (100_000, 1)))
        sketch.add((magnitude * random.choice([-1, 1], (100_000, 1))).astype(np.float32))
    assert 20_000 < len(sketch.buckets[0]) <= 27_500


def test_the_accumulator_with_a_sketch_agrees_with_the_exact_one() -> None:
    values = np.random.default_rng(2).normal(1, 0.3, (4000, 5)).astype(np.float32)
    exact, sketched = StatisticsAccumulator(), StatisticsAccumulator("sketch")
    for accumulator in (exact, sketched):
        accumulator.add(values)
    ours, theirs = sketched.result(), exact.result()
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for name in QUANTILES:
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-3)
    assert (ours.q01 != theirs.q01).any()


def test_a_stored_shard_goes_on_where_it_was(tmp_path) -> None:  # type: ignore[no-untyped-def]
    values = np.random.default_rng(3).normal(size=(300, 2)).astype(np.float32)
    whole, first, second = (StatisticsAccumulator("sketch") for _ in range(3))
    whole.add(values)
    first.add(values[:100])
    second.add(values[100:])
    np.savez(tmp_path / "shard.npz", **first.arrays())  # type: ignore[arg-type]
    with np.load(tmp_path / "shard.npz") as stored:
        second.merge(StatisticsAccumulator.from_arrays(stored))
    result, expected = second.result(), whole.result()
    assert result.count == 300 and (result.q98 == expected.q98).all() and (result.min == expected.min).all()
    np.testing.assert_allclose(result.std, expected.std, rtol=1e-12)
