"""The power law: known exponents come back, and its interval holds as often as it says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.evaluation.power_law import MIN_RUNS, PowerLaw, fit_power_law, fit_with_intervals

AMOUNTS = (0.25, 0.5, 1.0)
laws = st.builds(PowerLaw, scale=st.floats(1e-3, 1e3), exponent=st.floats(-2, 2))
amounts = st.lists(st.floats(1e-3, 1e5), min_size=5, max_size=12, unique_by=lambda value: round(math.log(value), 2))


def noisy(rng: np.random.Generator, law: PowerLaw, repeats: int, scatter: float) -> tuple[list[float], list[float]]:
    x = np.repeat(AMOUNTS, repeats)
    return x.tolist(), (law.at(x) * np.exp(scatter * rng.normal(size=len(x)))).tolist()


@given(law=laws, x=amounts)
@settings(max_examples=60, deadline=None)
def test_runs_on_a_law_give_that_law(law: PowerLaw, x: list[float]) -> None:
    fit = fit_with_intervals(x, law.at(x).tolist(), at=x)
    assert fit.law.exponent == pytest.approx(law.exponent, abs=1e-6)
    np.testing.assert_allclose(fit.law.at(x), law.at(x), rtol=1e-6)
    # no scatter: the interval and the band are the law itself, up to rounding
    assert fit.exponent_low == pytest.approx(law.exponent, abs=1e-5) == pytest.approx(fit.exponent_high, abs=1e-5)
    np.testing.assert_allclose(fit.band_low, fit.band_high, rtol=1e-4)


@given(seed=st.integers(0, 999), factor=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_the_amount_changes_the_scale_and_nothing_else(seed: int, factor: float) -> None:
    x, y = noisy(np.random.default_rng(seed), PowerLaw(scale=0.4, exponent=0.3), 2, 0.2)
    hours, minutes = fit_with_intervals(x, y), fit_with_intervals([factor * value for value in x], y)
    for name in ("exponent_low", "exponent_high", "r_squared"):
        assert getattr(minutes, name) == pytest.approx(getattr(hours, name), rel=1e-6)
    assert minutes.law.scale == pytest.approx(hours.law.scale * factor**hours.law.exponent, rel=1e-6)


def test_the_order_of_the_runs_changes_nothing() -> None:
    x, y = noisy(np.random.default_rng(3), PowerLaw(scale=0.4, exponent=0.3), 3, 0.2)
    first, second = fit_with_intervals(x, y, at=AMOUNTS), fit_with_intervals(x[::-1], y[::-1], at=AMOUNTS)
    assert (first.exponent_low, first.exponent_high) == (second.exponent_low, second.exponent_high)
    np.testing.assert_array_equal(first.band_low, second.band_low)


def test_the_line_is_that_of_least_squares() -> None:
    x, y = noisy(np.random.default_rng(1), PowerLaw(scale=2.0, exponent=0.5), 4, 0.3)
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    law = fit_power_law(x, y)
    assert (law.exponent, law.scale) == (pytest.approx(-slope), pytest.approx(math.exp(intercept)))


def coverage(noise: str, repeats: int, trials: int) -> tuple[float, float]:
    """How often the interval holds the exponent, and the band the law in its middle."""
    rng, law = np.random.default_rng(7), PowerLaw(scale=0.4, exponent=0.3)
    x = np.repeat(AMOUNTS, repeats)
    held = np.zeros(2)
    for seed in range(trials):
        scatter = {
            "normal": lambda: rng.normal(size=len(x)),
            "heavy": lambda: rng.standard_t(4, size=len(x)),
            "skewed": lambda: rng.exponential(size=len(x)) - 1,
        }[noise]()
        fit = fit_with_intervals(x.tolist(), (law.at(x) * np.exp(0.1 * scatter)).tolist(), at=[0.5], seed=seed)
        assert fit.band_low is not None and fit.band_high is not None
        assert fit.exponent_low is not None and fit.exponent_high is not None
        held += (fit.exponent_low <= 0.3 <= fit.exponent_high, fit.band_low[0] <= law.at([0.5])[0] <= fit.band_high[0])
    exponent, band = (held / trials).tolist()
    return exponent, band


def test_the_interval_of_six_policies_holds_in_95_of_100_studies() -> None:
    """400 studies: the standard error of a coverage of 95% is 1.1 points."""
    exponent, band = coverage("normal", repeats=2, trials=400)
    assert 0.92 <= exponent <= 0.98
    assert 0.92 <= band <= 0.98


@pytest.mark.soak
@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("repeats", [2, 3, 6])
def test_the_interval_holds_whatever_the_scatter(noise: str, repeats: int) -> None:
    exponent, band = coverage(noise, repeats, trials=3000)
    assert 0.93 <= exponent <= 0.97
    assert 0.92 <= band <= 0.97  # the law's height follows a skewed scatter's mean less closely than its slope


def test_too_few_runs_have_a_law_but_no_interval() -> None:
    few = fit_with_intervals([1.0, 2.0, 4.0, 8.0], [0.5, 0.41, 0.3, 0.26], at=[1.0])
    assert few.runs == MIN_RUNS - 1
    assert (few.exponent_low, few.exponent_high, few.band_low, few.band_high) == (None,) * 4
    assert few.law.exponent == pytest.approx(0.32, abs=0.02)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([80.0, 130.0] * 3, [0.4, 0.3] * 3, "takes 3 different amounts of data, there are 2"),
        ([1.0, 2.0, 3.0], [0.4, 0.0, 0.3], "the error 0 is not above 0"),
        ([1.0, 2.0, -3.0], [0.4, 0.2, 0.3], "the amount -3 is not above 0"),
        ([1.0, 2.0, 3.0], [0.4, float("nan"), 0.3], "the error nan is not above 0"),
    ],
)
def test_what_no_law_can_have_is_named(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_with_intervals(x, y)


def test_one_amount_has_no_law() -> None:
    with pytest.raises(UserError, match="all of these are equal"):
        fit_power_law([2.0, 2.0], [0.3, 0.4])
