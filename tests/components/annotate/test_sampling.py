"""What is drawn for review, and the error rate of it: unbiased, with an interval that covers."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from components.annotate.errors import error_rates, faults, interval_of_share
from components.annotate.sampling import SHOWN, draw_sample, least_confident, read_sample
from model.data.annotations import ACCEPTED, write_annotations
from model.errors import UserError
from pipelines.cli import main
from tests.components.annotate.recordings import write_picks
from tests.components.annotate.reviews import FPS, accepted, row

ACTIONS = ("reach", "close gripper", "lift", "carry")


def machine(episodes: int, seed: int = 0) -> list[dict]:
    """Four segments an episode, of any confidence."""
    draw = random.Random(seed)
    return [
        row(episode, 10 * place, 10 * place + 10, action, confidence=draw.random())
        for episode in range(episodes)
        for place, action in enumerate(ACTIONS)
    ]


def review(rows: list[dict], wrong: set[tuple[int, int]]) -> list[dict]:
    """Every row accepted, those of `wrong` (episode, start) renamed."""
    return [
        one | {"review_state": ACCEPTED, "reviewer": "anna"}
        | ({"atomic_action": "hold"} if (one["episode"], one["start"]) in wrong else {})
        for one in rows
    ]  # fmt: skip


def test_the_least_confident_come_first_and_accepted_ones_never() -> None:
    rows = [row(0, 0, 10, "reach", confidence=0.4), row(0, 10, 20, "lift", confidence=0.1)]
    rows += accepted(1, (0, 10, "reach"), confidence=0.0) + [row(2, 0, 10, "reach", confidence=0.1)]
    ordered = [(one["episode"], one["start"]) for one in least_confident(rows)]
    assert ordered == [(0, 10), (2, 0), (0, 0)]
    sample = draw_sample(rows, least=2, control=3, seed=0)
    assert sample["population"] == 3 and {one["episode"] for one in sample["control"]} == {0, 2}
    assert [one["confidence"] for one in sample["least_confident"]] == [0.1, 0.1]
    with pytest.raises(UserError, match="--control is 4: choose 0 to 3"):
        draw_sample(rows, least=0, control=4, seed=0)


def test_the_control_depends_on_the_seed_and_the_rows_alone() -> None:
    rows = machine(30)
    sample = draw_sample(rows, least=5, control=20, seed=1)
    assert draw_sample(rows[::-1], least=5, control=20, seed=1) == sample
    assert draw_sample(rows, least=9, control=20, seed=1)["control"] == sample["control"]
    assert draw_sample(rows, least=5, control=20, seed=2)["control"] != sample["control"]
    drawn = {(one["episode"], one["start"]) for one in sample["control"]}
    assert len(drawn) == 20
    assert set(sample["episodes"]) == {
        one["episode"] for part in ("control", "least_confident") for one in sample[part]
    }


def test_the_rate_of_the_control_is_unbiased_where_that_of_the_least_confident_is_not() -> None:
    """The machine errs where it is unsure. 150 draws of 40 out of 240 segments; 1 of 5 is wrong."""
    rows = machine(60)
    unsure = sorted(rows, key=lambda one: one["confidence"])[:48]
    wrong = {(one["episode"], one["start"]) for one in unsure}
    reviewed = review(rows, wrong)
    found, inside = [], 0
    for seed in range(150):
        sample = draw_sample(rows, least=0, control=40, seed=seed)
        rate = error_rates(sample, reviewed, FPS)["rates"]["label"]
        found.append(rate["rate"])
        inside += rate["low"] <= 0.2 <= rate["high"]
    assert np.mean(found) == pytest.approx(0.2, abs=4 * 0.063 / 150**0.5)  # four standard errors
    assert inside / 150 >= 0.94
    doubtful = draw_sample(rows, least=40, control=0, seed=0)
    assert (
        error_rates(doubtful | {"control": doubtful["least_confident"]}, reviewed, FPS)["rates"]["label"]["rate"] == 1
    )


@given(st.integers(1, 60), st.data())
def test_the_interval_holds_the_share_and_is_exact(population: int, data: st.DataObject) -> None:
    drawn = data.draw(st.integers(1, population))
    wrong = data.draw(st.integers(0, drawn))
    low, high = interval_of_share(wrong, drawn, population)
    assert low <= wrong / drawn <= high or drawn < population
    assert drawn < population or low == high == wrong / drawn
    for there in range(population + 1):  # as few and as many as that are likely enough, or it is outside
        likely = min(hypergeom.sf(wrong - 1, population, there, drawn), hypergeom.cdf(wrong, population, there, drawn))
        assert (low <= there / population <= high) == (likely > 0.025) or abs(likely - 0.025) < 1e-9


def test_of_a_large_population_it_is_the_interval_of_clopper_and_pearson() -> None:
    low, high = interval_of_share(7, 50, 200_000)
    assert binom.sf(6, 50, low) == pytest.approx(0.025, rel=1e-3)
    assert binom.cdf(7, 50, high) == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize(
    ("reviewed", "found"),
    [
        (accepted(0, (10, 20, "lift")), set()),
        (accepted(0, (8, 23, "lift")), set()),
        (accepted(0, (10, 25, "lift")), {"cut"}),
        (accepted(0, (10, 15, "lift"), (15, 20, "lift")), {"cut"}),
        (accepted(0, (30, 40, "lift")), {"cut"}),
        (accepted(0, (10, 20, "carry")), {"label", "text"}),
        (accepted(0, (10, 20, "lift"), arm="left"), {"label"}),
        (accepted(0, (10, 20, "lift"), sub_task="Lift  the cube"), set()),
        (accepted(0, (10, 20, "lift"), sub_task="raise the cube"), {"text"}),
        ([], None),
        ([row(0, 10, 20, "lift")], None),
        ([*accepted(0, (0, 10, "lift")), row(0, 10, 20, "lift")], None),
    ],
)
def test_what_a_reviewer_changed_is_an_error(reviewed: list[dict], found: set[str] | None) -> None:
    assert faults(row(0, 10, 20, "lift"), reviewed, 4) == found


def test_what_is_not_reviewed_widens_the_interval() -> None:
    rows = machine(10)
    sample = draw_sample(rows, least=0, control=20, seed=0)
    done = review(rows, set())
    whole = error_rates(sample, done, FPS)
    last = sample["control"][-1]
    left = [one for one in done if one["episode"] != last["episode"]]
    part = error_rates(sample, left, FPS)
    assert whole["pending"] == 0 and whole["rates"]["any"]["rate"] == 0
    assert part["pending"] >= 1 and part["rates"]["any"]["rate"] is None
    assert part["rates"]["any"]["low"] == 0 and part["rates"]["any"]["high"] > whole["rates"]["any"]["high"]


def test_segments_without_a_text_of_the_model_are_reviewed_too() -> None:
    rows = [one | {"review_state": "failed"} if one["episode"] == 1 else one for one in machine(3)]
    sample = draw_sample(rows, least=0, control=12, seed=0)
    assert sample["population"] == 12 and {one["episode"] for one in sample["control"]} == {0, 1, 2}


def test_the_commands_draw_and_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, rows = write_picks(tmp_path / "dataset", 8, cameras=("cam_high",)), machine(8)
    write_annotations(tmp_path, rows)
    given = ["annotate", "sample", str(tmp_path), "--output", str(tmp_path / "sample.json"), "--control", "30"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "20 segments that are least confident and 30 drawn at random from 32" in shown and "10% (" in shown
    sample = read_sample(tmp_path / "sample.json")
    wrong = {(one["episode"], one["start"]) for one in sample["control"][:3]}
    write_annotations(tmp_path, review(rows, wrong), "reviewed.parquet")
    measure = ["annotate", "errors", str(dataset), str(tmp_path / "sample.json"), str(tmp_path / "reviewed.parquet")]
    assert main(measure) == 0
    assert "label     3      10.0%" in capsys.readouterr().out
    assert main([*measure, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"]["cut"]["wrong"] == 0
    assert main(given) == 2 and "nothing is written over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "is no sample"),
        ('{"control": [], "population": 1, "episodes": []}', "version None"),
        ('{"schema_version": 1, "control": [{"episode": 1}], "population": 1, "episodes": [1]}', "is no sample"),
        ('{"schema_version": 1, "control": 3, "population": 1, "episodes": []}', "is no sample"),
        (
            json.dumps({"schema_version": 1, "control": [dict.fromkeys(SHOWN, 0)], "population": 0, "episodes": []}),
            "no sample",
        ),
    ],
)
def test_what_is_no_sample_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sample.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_sample(tmp_path / "sample.json")
