"""The statistics against scipy on random tables, published examples, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from model.errors import UserError
from model.evaluation import scoring
from model.evaluation.records import Checkpoint, TrialRecord


def record(seed: int, success: bool, passed: int = 0, condition: str = "policy") -> TrialRecord:
    passed = 4 if success else passed
    return TrialRecord(
        condition=condition, policy="bundle", bundle_digest="d", task="lift_right", instruction="lift",
        robot="aloha_sim", seed=seed, outcome="success" if success else "failure",
        reason=None if success else "time limit",
        checkpoints=tuple(Checkpoint(name=f"c{i}", seconds=float(i) if i < passed else None) for i in range(4)),
        seconds=8.0, looks=8,
    )  # fmt: skip


def test_wilson_agrees_with_scipy_on_random_counts():
    rng = np.random.default_rng(0)
    for _ in range(300):
        trials = int(rng.integers(1, 400))
        successes = int(rng.integers(0, trials + 1))
        expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
        assert scoring.wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_covers_between_93_and_97_percent():
    rng = np.random.default_rng(1)
    for rate in (0.1, 0.3, 0.6, 0.9):
        intervals = {k: scoring.wilson(k, 100) for k in range(101)}
        drawn = rng.binomial(100, rate, size=20_000)
        covered = np.mean([intervals[k][0] <= rate <= intervals[k][1] for k in drawn])
        assert 0.93 <= covered <= 0.97, rate


def test_mcnemar_agrees_with_the_binomial_test_on_random_tables():
    rng = np.random.default_rng(2)
    for _ in range(300):
        b, c = (int(x) for x in rng.integers(0, 60, size=2))
        expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        assert scoring.mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-10)


def test_bootstrap_agrees_with_scipy_and_repeats_exactly():
    values = np.random.default_rng(3).choice([0, 0.25, 0.5, 1.0], size=100)
    low, high = scoring.bootstrap_mean(values, seed=5)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(9)
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert scoring.bootstrap_mean(values, seed=5) == (low, high)
    assert scoring.bootstrap_mean(values, seed=6) != (low, high)


def test_newcombe_gives_the_published_interval():
    # Newcombe 1998 (Statistics in Medicine 17:2635), method 10 for the table 36, 12, 2, 0.
    assert scoring.newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_newcombe_changes_sign_when_the_policies_change_places():
    rng = np.random.default_rng(7)
    for _ in range(100):
        both, first, second, neither = (int(x) for x in rng.integers(0, 30, size=4))
        low, high = scoring.newcombe_paired(both + 1, first, second, neither)
        assert scoring.newcombe_paired(both + 1, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)
        assert -1 <= low <= (first - second) / (both + 1 + first + second + neither) <= high <= 1


def test_newcombe_covers_between_93_and_97_percent():
    rng = np.random.default_rng(4)
    for cells in ((0.5, 0.3, 0.05, 0.15), (0.2, 0.2, 0.2, 0.4), (0.05, 0.75, 0.02, 0.18)):
        truth = cells[1] - cells[2]
        tables = rng.multinomial(100, cells, size=4_000)
        intervals = [scoring.newcombe_paired(*(int(cell) for cell in table)) for table in tables]
        covered = np.mean([low <= truth <= high for low, high in intervals])
        assert 0.93 <= covered <= 0.97, (cells, covered)


def test_score_counts_success_and_progress():
    records = [record(0, True), record(1, False, passed=2), record(2, False), record(3, True)]
    result = scoring.score(records)
    assert (result.trials, result.successes, result.sr) == (4, 2, 0.5)
    assert result.ps == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert result.sr_low < 0.5 < result.sr_high and result.ps_low <= result.ps <= result.ps_high


def test_compare_pairs_by_seed_and_not_by_order():
    first = [record(seed, seed % 4 != 0) for seed in range(40)]
    second = [record(seed, seed % 10 == 1, condition="mean_replay") for seed in reversed(range(40))]
    result = scoring.compare(first, second)
    assert result.difference == pytest.approx(0.75 - 0.1)
    assert (result.only_first, result.only_second) == (26, 0)
    assert result.low > 0.4 and result.p < 1e-6
    assert result.low == pytest.approx(result.bootstrap_low, abs=0.07)


def test_scoring_refuses_what_cannot_be_compared():
    with pytest.raises(UserError, match="2 seeds were run by one policy alone"):
        scoring.compare([record(0, True), record(1, True)], [record(0, True), record(2, True)])
    with pytest.raises(UserError, match="run twice"):
        scoring.compare([record(0, True), record(0, False)], [record(0, True), record(1, True)])
    with pytest.raises(UserError, match="no trials"):
        scoring.score([])
    with pytest.raises(UserError, match="3 successes of 2 trials"):
        scoring.wilson(3, 2)
