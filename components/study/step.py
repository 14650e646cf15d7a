"""Joins the evaluations of a study: scores of each amount of data, the power law that they follow, a page with figures.

What each policy was trained on comes from the records of the steps behind its evaluation, not from the order in which
the evaluations arrive.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.evaluate.step import EVALUATION, TRIALS
from components.subset.step import check_amount
from model.errors import UserError
from model.progress import Progress

if TYPE_CHECKING:
    from model.evaluation.study import TrainedRun

NAME = "study"
INPUTS = ("evaluations",)
STUDY, PAGE, FIGURE = "study.json", "study.html", "study"
CONDITION = "policy"
MAX_RUNS = 50
"""Tasks that one fan-out of a workflow takes without outgrowing what Kubernetes stores of it."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Which policies a study trains; each is trained, fine-tuned and evaluated as these sections of the parameters say.

    Attributes:
        axis: what the amounts count: a `share` of the hours, `hours`, or `demonstrations` of each task.
        amounts: how much data; each is trained on by itself, and a larger amount holds the episodes of a smaller one.
        repeats: policies an amount, with seeds one after another, of the choice of episodes and of the training.
        parallel: policies that are trained at a time. kfp.local takes two at most.
    """

    axis: Literal["share", "hours", "demonstrations"] = "share"
    amounts: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)
    repeats: int = 2
    parallel: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "amounts", tuple(float(amount) for amount in self.amounts))
        if len(self.amounts) < 2 or len(set(self.amounts)) < len(self.amounts):
            raise UserError(
                f"study.amounts is {', '.join(f'{amount:g}' for amount in self.amounts) or 'empty'}: a study compares "
                "two amounts or more, each different"
            )
        for amount in self.amounts:
            check_amount("an amount of study.amounts", self.axis, amount)
        if self.repeats < 1:
            raise UserError(f"study.repeats is {self.repeats}: each amount is trained at least once")
        if self.repeats * len(self.amounts) > MAX_RUNS:
            raise UserError(
                f"study.repeats {self.repeats} x {len(self.amounts)} amounts are {self.repeats * len(self.amounts)} "
                f"policies: at most {MAX_RUNS} fit one workflow, take fewer of either"
            )
        if not 1 <= self.parallel <= MAX_RUNS:
            raise UserError(f"study.parallel is {self.parallel}: it must be 1 to {MAX_RUNS}")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Writes study.json, study.html, and the figure as study.svg and study.png.

    Raises:
        UserError: evaluations that do not belong together, or whose records are gone.
    """
    from components.study.page import write_page
    from model.evaluation.study import SCHEMA_VERSION, study_figures
    from model.evaluation.study_picture import save_study
    from model.evaluation.study_words import conclusions

    evaluations = {folder: _evaluation(folder) for folder in inputs.values()}
    progress.message(f"joining {len(evaluations)} evaluations")
    for key in ("task", "robot"):
        found = sorted({str(evaluation[key]) for evaluation in evaluations.values()})
        if len(found) > 1:
            raise UserError(f"the evaluations are of {key} {' and '.join(found)}: a study is of one")
    held_out = {evaluation["digests"]["holdout_episodes"] for evaluation in evaluations.values()}
    if len(held_out) > 1:
        raise UserError("the evaluations were judged on different held-out episodes: a study has one packed set")
    runs = [_trained_run(folder, evaluation) for folder, evaluation in evaluations.items()]
    first = next(iter(evaluations.values()))
    study = {
        "schema_version": SCHEMA_VERSION,
        "task": first["task"],
        "robot": first["robot"],
        "closed_loop_reason": first["closed_loop_reason"],
        **study_figures(runs, parameters.axis),
    }
    study["conclusions"] = conclusions(study)
    text = json.dumps(study, indent=1, ensure_ascii=False, allow_nan=False)
    (output / STUDY).write_text(text + "\n", encoding="utf-8")
    save_study(output / FIGURE, study)
    write_page(study, (output / f"{FIGURE}.svg").read_text(encoding="utf-8"), output / PAGE)
    return _summary(study)


def _evaluation(folder: Path) -> dict[str, Any]:
    evaluation: dict[str, Any] = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    return evaluation


def _trained_run(folder: Path, evaluation: Mapping[str, Any]) -> "TrainedRun":
    from components.study.origin import subset_behind
    from model.evaluation.records import group, read_trials
    from model.evaluation.study import TrainedRun

    subset = subset_behind(folder)
    closed = evaluation["closed_loop"] is not None
    trials = group(read_trials(folder / TRIALS))[CONDITION] if closed else ()
    open_loop = evaluation["open_loop"]
    chosen = subset.summary
    return TrainedRun(
        amount=float(chosen["amount"]),
        seed=int(chosen["seed"]),
        episodes=int(chosen["episodes"]),
        hours=float(chosen["hours"]),
        demonstrations=int(chosen["demonstrations"]),
        trials=tuple(trials),
        horizons=tuple(open_loop["horizons"]) if open_loop else (),
        open_loop=tuple(open_loop["overall"]["mae"]) if open_loop else (),
        digests={
            "subset": subset.digest,
            "training_episodes": chosen["training_episodes"],
            "bundle": evaluation["bundle_digest"],
            "trials": evaluation["digests"]["trials"],
        },
    )


def _summary(study: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wants to see at the end of a run."""
    columns = ("amount", "x", "runs", "trials", "sr", "sr_low", "sr_high", "ps", "ps_low", "ps_high", "open_loop")
    laws = {
        metric: {key: value for key, value in law.items() if key != "curve"} for metric, law in study["laws"].items()
    }
    return {
        **{key: study[key] for key in ("task", "robot", "axis", "unit", "horizon")},
        "points": [{column: point[column] for column in columns} for point in study["points"]],
        "laws": laws,
        "differences": study["differences"],
        "conclusions": study["conclusions"],
    }
