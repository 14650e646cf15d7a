"""Comparisons: what is equal, what agrees, and what differs."""

from typing import Any

import pytest

from model.errors import UserError
from pipelines.versions.comparison import BITWISE, DIFFERENT, TOLERANCE, Result, compare, comparison_lines, of_run

PARAMETERS = {"pack": {}, "finetune": {"steps": 10, "seed": 0}, "evaluate": {}, "register": {}, "promote": {}}
FIGURES = {
    "closed_loop.policy.sr": 0.90,
    "closed_loop.policy.sr_low": 0.82,
    "closed_loop.policy.sr_high": 0.95,
    "closed_loop.untrained.sr": 0.0,
    "closed_loop.untrained.sr_low": 0.0,
    "closed_loop.untrained.sr_high": 0.04,
    "open_loop_error.10": 0.100,
}


def result(name: str = "a", **changes: Any) -> Result:
    values = {
        "commit": "c" * 40,
        "dirty": False,
        "parameters": PARAMETERS,
        "digests": {"pack": "p", "finetune": "f", "evaluate": "e", "register": "r"},
        "figures": FIGURES,
        "environment": {"threads": 2, "packages": {"torch": "2.13.0"}},
    }
    return Result(name=name, **{**values, **changes})


def digests(**changes: str) -> dict[str, str]:
    return {"pack": "p", "finetune": "f", "evaluate": "e", "register": "r"} | changes


def figures(**changes: float) -> dict[str, float]:
    return FIGURES | {name.replace("__", "."): value for name, value in changes.items()}


def test_equal_bytes_though_the_registry_counts_on() -> None:
    comparison = compare(result(), result("b", digests=digests(register="other")))
    assert comparison["outcome"] == BITWISE and comparison["steps"]["register"] is False
    assert comparison["parameters"] == {} and comparison["environment"] == {}
    assert "which it may" in "\n".join(comparison_lines(comparison))


def test_within_each_other_s_interval() -> None:
    near = figures(closed_loop__policy__sr=0.85, closed_loop__policy__sr_low=0.76, closed_loop__policy__sr_high=0.91)
    assert compare(result(), result(digests=digests(finetune="g"), figures=near))["outcome"] == TOLERANCE
    far = figures(closed_loop__policy__sr=0.70, closed_loop__policy__sr_low=0.6, closed_loop__policy__sr_high=0.78)
    comparison = compare(result(), result(digests=digests(finetune="g"), figures=far))
    assert comparison["outcome"] == DIFFERENT
    assert comparison["figures"]["closed_loop.policy.sr"]["agree"] is False
    assert comparison["figures"]["closed_loop.untrained.sr"]["agree"] is None, "baselines do not decide"


@pytest.mark.parametrize(("error", "outcome"), [(0.104, TOLERANCE), (0.107, DIFFERENT)])
def test_open_loop_errors_agree_within_5_percent(error: float, outcome: str) -> None:
    changed = result(digests=digests(finetune="g"), figures=figures(open_loop_error__10=error))
    assert compare(result(), changed)["outcome"] == outcome


def test_horizons_are_told_in_their_order_and_what_one_of_both_lacks() -> None:
    longer = result("b", figures=figures(open_loop_error__1=0.05, open_loop_error__25=0.2, open_loop_error__50=0.3))
    shorter = result(figures=figures(open_loop_error__1=0.05, open_loop_error__20=0.18))
    comparison = compare(shorter, longer)
    assert comparison["figures_in_one"] == {
        "open_loop_error.20": {"first": 0.18, "second": None},
        "open_loop_error.25": {"first": None, "second": 0.2},
        "open_loop_error.50": {"first": None, "second": 0.3},
    }
    told = [line.split() for line in comparison_lines(comparison) if "steps ahead" in line]
    assert [line[2] for line in told] == ["1", "10", "20", "25", "50"]
    assert told[2][5:] == ["0.18", "none", "only", "in", "one"] and told[1][5:] == ["0.1", "0.1", "agree"]


def test_without_figures_other_bytes_are_different() -> None:
    one, other = result(figures={}), result(figures={}, digests=digests(pack="q"))
    assert compare(one, other)["outcome"] == DIFFERENT
    assert compare(one, result(digests={}, figures={}))["outcome"] == DIFFERENT, "nothing in common is not equal"


def test_differences_are_named() -> None:
    changed = result(
        parameters=PARAMETERS | {"finetune": {"steps": 20, "seed": 0}, "evaluate": {"trials": 5}},
        environment={"threads": 1, "packages": {"torch": "2.12.0"}},
        commit="d" * 40,
        dirty=True,
    )
    comparison = compare(result(), changed)
    assert comparison["parameters"] == {"finetune.steps": (10, 20), "evaluate.trials": (None, 5)}
    assert comparison["environment"] == {"threads": (2, 1), "packages.torch": ("2.13.0", "2.12.0")}
    assert comparison["code"]["second"] == "d" * 12 + " with changes"
    text = "\n".join(comparison_lines(comparison))
    assert "finetune.steps: 10 -> 20" in text and "packages.torch: 2.13.0 -> 2.12.0" in text


def test_a_run_without_a_finished_step() -> None:
    with pytest.raises(UserError, match="run x finished no step"):
        of_run({"id": "x", "steps": [{"name": "collect", "parameters": {}}]})
