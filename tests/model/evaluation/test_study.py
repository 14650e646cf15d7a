"""What a study says of its policies: scores over common scenes, the law that they follow, paired differences."""

import json

import numpy as np
import pytest

from model.errors import UserError
from model.evaluation.power_law import PowerLaw
from model.evaluation.records import Checkpoint
from model.evaluation.study import study_figures
from model.evaluation.study_words import conclusions
from tests.model.evaluation.study_runs import study_runs, trained, trial

LAW = PowerLaw(scale=0.3, exponent=0.4)


@pytest.fixture(scope="module")
def study() -> dict:
    return study_figures(study_runs(LAW), "share")


def test_it_finds_the_law_of_its_policies(study: dict) -> None:
    for metric in ("sr", "ps", "open_loop"):
        law = study["laws"][metric]
        assert law["reason"] is None
        assert law["exponent_low"] < 0.4 < law["exponent_high"], metric
        assert law["runs"] == 12
    assert study["laws"]["open_loop"]["exponent"] == pytest.approx(0.4, abs=0.02)
    assert study["laws"]["open_loop"]["doubling"] == pytest.approx(2**-0.4, abs=0.02)


def test_the_curve_and_its_band_run_over_all_amounts(study: dict) -> None:
    curve = study["laws"]["sr"]["curve"]
    assert (curve["x"][0], curve["x"][-1]) == (0.0625, 0.5)
    assert all(low < value < high for low, value, high in zip(curve["low"], curve["error"], curve["high"], strict=True))


def test_a_share_is_drawn_in_hours_and_demonstrations_are_counted() -> None:
    runs = [trained(amount, 0, [4, 0]) for amount in (0.5, 1.0)]
    assert [point["x"] for point in study_figures(runs, "share")["points"]] == [0.25, 0.5]
    assert study_figures(runs, "share")["unit"] == "hours"
    counted = study_figures(runs, "demonstrations")
    assert [point["x"] for point in counted["points"]] == [25, 50]
    assert counted["unit"] == "demonstrations a task"


def test_the_policies_of_an_amount_are_scored_together() -> None:
    runs = [trained(1.0, 0, [4, 4, 0, 2]), trained(1.0, 1, [4, 0, 0, 2]), trained(0.5, 0, [0, 0, 0, 4])]
    fewer, most = study_figures(runs, "share")["points"]
    assert (most["sr"], most["ps"], most["runs"], most["trials"]) == (3 / 8, 0.5, 2, 8)
    assert (fewer["sr"], fewer["runs"], fewer["trials"]) == (0.25, 1, 4)
    for point in (fewer, most):
        assert 0 <= point["sr_low"] < point["sr"] < point["sr_high"] <= 1


def test_scenes_that_all_policies_share_are_not_counted_as_many() -> None:
    """Three policies that do the same in each scene know no more than one of them."""
    passed = [4, 0] * 20
    alone = [trained(1.0, 0, passed), trained(0.5, 0, passed)]
    three = [trained(amount, seed, passed) for amount in (0.5, 1.0) for seed in range(3)]
    one, many = study_figures(alone, "share")["points"][-1], study_figures(three, "share")["points"][-1]
    assert (many["sr_low"], many["sr_high"]) == (one["sr_low"], one["sr_high"])


def test_a_difference_is_paired_over_the_scenes() -> None:
    """Hard scenes are hard for both: the difference of each scene varies far less than the scenes."""
    easy = [4] * 30 + [0] * 30
    worse = [4] * 24 + [0] * 36
    (difference,) = study_figures([trained(0.5, 0, worse), trained(1.0, 0, easy)], "share")["differences"]
    assert (difference["amount"], difference["against"]) == (0.5, 1.0)
    assert difference["sr"] == pytest.approx(-0.1)
    assert -0.25 < difference["sr_low"] < -0.1 < difference["sr_high"] < -0.02


def test_open_loop_takes_the_farthest_step_that_all_were_judged_at(study: dict) -> None:
    assert study["horizon"] == 10, "no held-out episode is 25 steps long"
    point = study["points"][0]
    assert point["open_loop_low"] < point["open_loop"] < point["open_loop_high"]
    single = study_figures([trained(0.5, 0, [4]), trained(1.0, 0, [0])], "share")["points"][0]
    assert single["open_loop"] == 0.3 and single["open_loop_low"] is None, "one policy shows no scatter"


def test_the_order_of_the_policies_changes_nothing(study: dict) -> None:
    assert study_figures(study_runs(LAW)[::-1], "share") == study
    json.dumps(study, allow_nan=False)


def test_without_a_closed_loop_the_open_loop_is_left() -> None:
    runs = [trained(amount, seed, [], 0.3 / amount) for amount in (0.25, 0.5, 1.0) for seed in range(2)]
    found = study_figures(runs, "share")
    assert found["laws"]["sr"] == {"reason": "there was no closed loop"}
    assert found["laws"]["open_loop"]["exponent"] == pytest.approx(1.0)
    assert found["points"][0]["sr"] is None
    said = " ".join(conclusions({**found, "closed_loop_reason": "robot 'gr1' has no simulator here"}))
    assert "No closed loop: robot 'gr1' has no simulator here" in said


def test_a_run_without_failures_has_a_place_on_the_law() -> None:
    runs = study_runs(PowerLaw(scale=0.02, exponent=1.5), trials=20)
    assert any(all(trial.success for trial in run.trials) for run in runs)
    assert study_figures(runs, "share")["laws"]["sr"]["exponent"] > 0.3


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([trained(amount, seed, [0, 0]) for amount in (0.25, 0.5, 1.0) for seed in (0, 1)], "came out the same"),
        ([trained(amount, seed, [4, 0, seed]) for amount in (0.5, 1.0) for seed in (0, 1)], "takes 3 different"),
    ],
)
def test_why_there_is_no_law(runs, reason: str) -> None:
    found = study_figures(runs, "share")
    assert reason in found["laws"]["ps"]["reason"]
    assert any(sentence.startswith("Progress score: no power law, ") for sentence in conclusions({**found}))


def test_a_trend_that_the_scatter_could_make_is_not_told() -> None:
    rng = np.random.default_rng(5)
    runs = [trained(a, s, rng.integers(0, 5, 20).tolist(), 0.3) for a in (0.25, 0.5, 1.0) for s in range(3)]
    found = study_figures(runs, "share")
    law = found["laws"]["sr"]
    assert law["exponent_low"] < 0 < law["exponent_high"]
    assert any("Success rate: these 9 policies show no trend" in sentence for sentence in conclusions(found))


def test_a_trend_is_told_with_its_interval(study: dict) -> None:
    said = conclusions(study)
    assert any(
        sentence.startswith("Success rate: twice the data leaves 7") and "of the failures" in sentence
        for sentence in said
    )
    assert any(
        sentence.startswith("12.5% of the data against 100% of the data, on the same scenes: success rate -")
        for sentence in said
    )


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "there is none"),
        ([trained(0.5, 0, [4]), trained(0.5, 0, [0])], "the run of 0.5 with seed 0 twice"),
        ([trained(0.5, 0, [4, 4]), trained(1.0, 0, [4])], "the run of 1 with seed 0 was tried on other scenes"),
        ([trained(0.5, 0, [4]), trained(1.0, 0, [4], horizons=(1, 20))], "predicts other steps ahead"),
    ],
)
def test_policies_that_do_not_belong_together_are_named(runs, message: str) -> None:
    with pytest.raises(UserError, match=message):
        study_figures(runs, "share")


def test_a_trial_of_the_helper_counts_as_it_says() -> None:
    assert trial(0, 4).success and not trial(0, 3).success
    assert trial(0, 3).progress == 0.75
    assert trial(0, 0).checkpoints[0] == Checkpoint(name="reached", seconds=None)
