"""What a study of the amount of data found: scores of each amount with intervals, the law they follow, differences.

A study trains the same policy on nested parts of one dataset, each part with several seeds, and judges every policy on
the same unseen scenes and held-out episodes. Two kinds of scatter are told apart:

- over scenes: the interval of an amount's success rate and progress score, and of a difference between two amounts, is
  from resampling the scenes, with all that the amount's policies did in one. It holds for these policies.
- over trainings: the law's intervals, and those of the open-loop error, are from the scatter between trained policies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.errors import UserError
from model.evaluation.intervals import CONFIDENCE, DIFFERENCE, bootstrap_clustered, bootstrap_mean
from model.evaluation.power_law import fit_with_intervals
from model.evaluation.records import TrialRecord

SCHEMA_VERSION = 1
CURVE_POINTS = 60
UNITS = {"share": "hours", "hours": "hours", "demonstrations": "demonstrations a task"}
"""What the amounts of an axis are drawn over: a share of the data is so many hours of it."""
METRICS = ("sr", "ps", "open_loop")


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """One policy of a study and how it was judged.

    Attributes:
        amount: that was asked for, on the study's axis.
        seed: of the choice of episodes and of the training.
        episodes, hours, demonstrations: that it was trained on; demonstrations of the task that has the fewest.
        trials: those of the policy in closed loop; empty without.
        horizons, open_loop: the error so many steps ahead, None where no held-out episode is that long; empty without.
        digests: of what it was made from and judged by, for the record.
    """

    amount: float
    seed: int
    episodes: int
    hours: float
    demonstrations: int
    trials: tuple[TrialRecord, ...]
    horizons: tuple[int, ...]
    open_loop: tuple[float | None, ...]
    digests: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.amount:g} with seed {self.seed}"


Value = Callable[[TrialRecord], float]
_SCORES: Mapping[str, Value] = {
    "sr": lambda trial: float(trial.success),
    "ps": lambda trial: trial.progress,
}


def study_figures(runs: Sequence[TrainedRun], axis: str) -> dict[str, Any]:
    """`study.json` but for what was asked: runs, points, laws and differences, all JSON-able.

    Raises:
        UserError: two runs of one amount and seed, or runs that were not judged on the same scenes.
    """
    ordered = sorted(runs, key=lambda run: (run.amount, run.seed))
    _check(ordered)
    amounts = list(dict.fromkeys(run.amount for run in ordered))
    grouped = {amount: [run for run in ordered if run.amount == amount] for amount in amounts}
    horizon = _horizon(ordered)
    scatter = _scatter(grouped, horizon)
    return {
        "axis": axis,
        "unit": UNITS[axis],
        "horizon": horizon,
        "runs": [_run(run, axis, horizon) for run in ordered],
        "points": [_point(members, axis, horizon, scatter) for members in grouped.values()],
        "laws": {metric: _law(ordered, axis, metric, horizon) for metric in METRICS},
        "differences": [_difference(grouped[amount], grouped[amounts[-1]], axis) for amount in amounts[:-1]],
    }


def place(run: TrainedRun, axis: str) -> float:
    """Where the run lies on the axis: the demonstrations a task, or the hours, that it was trained on."""
    return float(run.demonstrations) if axis == "demonstrations" else run.hours


def _check(runs: Sequence[TrainedRun]) -> None:
    if not runs:
        raise UserError("a study needs trained policies: there is none")
    for first, second in zip(runs, runs[1:], strict=False):
        if (first.amount, first.seed) == (second.amount, second.seed):
            raise UserError(f"the study has the run of {first.name} twice: give each amount once")
    scenes = [{_scene(trial) for trial in run.trials} for run in runs]
    for run, seen in zip(runs, scenes, strict=True):
        if seen != scenes[0]:
            raise UserError(
                f"the run of {run.name} was tried on other scenes than that of {runs[0].name}: "
                "judge all runs of a study by the same evaluation"
            )
        if run.horizons != runs[0].horizons:
            raise UserError(
                f"the run of {run.name} predicts other steps ahead than that of {runs[0].name}: train all runs of a "
                "study with one pretrain.horizon"
            )


def _scene(trial: TrialRecord) -> tuple[str, int | str]:
    return trial.task, trial.number


def _horizon(runs: Sequence[TrainedRun]) -> int | None:
    """The farthest step ahead that every run was judged at, with an error that has a logarithm."""
    judged = [horizon for place, horizon in enumerate(runs[0].horizons) if all(run.open_loop[place] for run in runs)]
    return max(judged, default=None)


def _open_loop(run: TrainedRun, horizon: int) -> float:
    value = run.open_loop[run.horizons.index(horizon)]
    assert value is not None
    return value


def _run(run: TrainedRun, axis: str, horizon: int | None) -> dict[str, Any]:
    return {
        "amount": run.amount,
        "seed": run.seed,
        "x": _rounded(place(run, axis)),
        "episodes": run.episodes,
        "hours": _rounded(run.hours),
        "demonstrations": run.demonstrations,
        "trials": len(run.trials),
        **{name: _rounded(_mean(run.trials, value)) if run.trials else None for name, value in _SCORES.items()},
        "open_loop": _rounded(_open_loop(run, horizon)) if horizon else None,
        "digests": dict(run.digests),
    }


def _point(
    runs: Sequence[TrainedRun], axis: str, horizon: int | None, scatter: tuple[float, int] | None
) -> dict[str, Any]:
    """The runs of one amount together."""
    point: dict[str, Any] = {
        "amount": runs[0].amount,
        "x": _rounded(float(np.mean([place(run, axis) for run in runs]))),
        "runs": len(runs),
        "episodes": [min(run.episodes for run in runs), max(run.episodes for run in runs)],
        "hours": _rounded(float(np.mean([run.hours for run in runs]))),
        "trials": sum(len(run.trials) for run in runs),
    }
    for name, value in _SCORES.items():
        point |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
        if runs[0].trials:
            by_scene = _by_scene(runs, value)
            low, high = bootstrap_clustered(list(by_scene.values()))
            mean = float(np.mean([_mean(run.trials, value) for run in runs]))
            point |= {name: _rounded(mean), f"{name}_low": _rounded(low), f"{name}_high": _rounded(high)}
    point |= dict.fromkeys(("open_loop", "open_loop_low", "open_loop_high"))
    if horizon is not None:
        logarithm = float(np.mean([math.log(_open_loop(run, horizon)) for run in runs]))
        point["open_loop"] = _rounded(math.exp(logarithm))
        if scatter is not None:
            half = _student(scatter[1]) * scatter[0] / math.sqrt(len(runs))
            point["open_loop_low"] = _rounded(math.exp(logarithm - half))
            point["open_loop_high"] = _rounded(math.exp(logarithm + half))
    return point


def _scatter(grouped: Mapping[float, Sequence[TrainedRun]], horizon: int | None) -> tuple[float, int] | None:
    """Deviation of the logarithm of the open-loop error between runs of one amount, pooled over the amounts, and its
    degrees of freedom. None when no amount was trained twice."""
    freedom = sum(len(runs) - 1 for runs in grouped.values())
    if horizon is None or not freedom:
        return None
    logarithms = [np.log([_open_loop(run, horizon) for run in runs]) for runs in grouped.values()]
    squares = sum(float(np.square(values - values.mean()).sum()) for values in logarithms)
    return math.sqrt(squares / freedom), freedom


def _student(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, freedom))


def _law(runs: Sequence[TrainedRun], axis: str, metric: str, horizon: int | None) -> dict[str, Any]:
    """error = scale * x ** -exponent of one metric, or `reason`, one sentence, why there is none.

    The error of a rate is what is missing to 1, from counts with half a trial more on either side: a run without any
    error has no logarithm.
    """
    if metric == "open_loop":
        if horizon is None:
            return {"reason": "no held-out episode was predicted"}
        errors = [_open_loop(run, horizon) for run in runs]
    else:
        if not runs[0].trials:
            return {"reason": "there was no closed loop"}
        value = _SCORES[metric]
        errors = [(sum(1 - value(trial) for trial in run.trials) + 0.5) / (len(run.trials) + 1) for run in runs]
    if len(set(errors)) == 1:
        return {"reason": "every run came out the same: more trials or more data would tell them apart"}
    x = [place(run, axis) for run in runs]
    grid = np.geomspace(min(x), max(x), CURVE_POINTS)
    try:
        fit = fit_with_intervals(x, errors, at=grid)
    except UserError as error:
        return {"reason": str(error)}
    found: dict[str, Any] = {
        "reason": None,
        "scale": _rounded(fit.law.scale),
        "exponent": _rounded(fit.law.exponent),
        "exponent_low": None,
        "exponent_high": None,
        "doubling": _rounded(2**-fit.law.exponent),
        "doubling_low": None,
        "doubling_high": None,
        "r_squared": _rounded(fit.r_squared),
        "runs": fit.runs,
        "curve": {"x": _list(grid), "error": _list(fit.law.at(grid)), "low": None, "high": None},
    }
    if fit.exponent_low is not None and fit.exponent_high is not None:
        assert fit.band_low is not None and fit.band_high is not None
        found |= {
            "exponent_low": _rounded(fit.exponent_low),
            "exponent_high": _rounded(fit.exponent_high),
            "doubling_low": _rounded(2**-fit.exponent_high),
            "doubling_high": _rounded(2**-fit.exponent_low),
        }
        found["curve"] |= {"low": _list(fit.band_low), "high": _list(fit.band_high)}
    return found


def _difference(fewer: Sequence[TrainedRun], most: Sequence[TrainedRun], axis: str) -> dict[str, Any]:
    """Scores of an amount minus those of the largest, on the same scenes; negative: fewer data are worse."""
    found: dict[str, Any] = {"amount": fewer[0].amount, "against": most[0].amount}
    for name, value in _SCORES.items():
        found |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
        if fewer[0].trials:
            ours, theirs = _by_scene(fewer, value), _by_scene(most, value)
            values = [float(np.mean(ours[scene]) - np.mean(theirs[scene])) for scene in ours]
            low, high = bootstrap_mean(values, span=DIFFERENCE)
            found |= {
                name: _rounded(float(np.mean(values))), f"{name}_low": _rounded(low), f"{name}_high": _rounded(high),
            }  # fmt: skip
    return found


def _by_scene(runs: Sequence[TrainedRun], value: Value) -> dict[tuple[str, int | str], list[float]]:
    found: dict[tuple[str, int | str], list[float]] = {}
    for run in runs:
        for trial in run.trials:
            found.setdefault(_scene(trial), []).append(value(trial))
    return {scene: found[scene] for scene in sorted(found, key=str)}


def _mean(trials: Sequence[TrialRecord], value: Value) -> float:
    return float(np.mean([value(trial) for trial in trials]))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _list(values: np.ndarray) -> list[float]:
    return [_rounded(float(value)) for value in values]
