"""Policies of a study whose success and error are known, for tests of what a study says of them."""

import numpy as np

from model.evaluation.power_law import PowerLaw
from model.evaluation.records import Checkpoint, TrialRecord
from model.evaluation.study import TrainedRun

CHECKPOINTS = ("reached", "held", "lifted", "kept")


def trial(seed: int, passed: int, bundle: str = "b", task: str = "lift_right") -> TrialRecord:
    """A trial that passed so many of four checkpoints; all four are a success."""
    success = passed == len(CHECKPOINTS)
    return TrialRecord(
        condition="policy", policy="policy", bundle_digest=bundle, task=task, instruction="lift it", robot="aloha_sim",
        checkpoints=tuple(
            Checkpoint(name=name, seconds=float(n) if n < passed else None) for n, name in enumerate(CHECKPOINTS)
        ),
        outcome="success" if success else "failure", reason=None if success else "time limit", seconds=9.0, seed=seed,
    )  # fmt: skip


def trained(amount: float, seed: int, passed: list[int], error: float | None = 0.3, **changes) -> TrainedRun:
    """A policy whose trial on scene n passed `passed[n]` checkpoints."""
    values = {
        "amount": amount, "seed": seed, "episodes": round(100 * amount), "hours": 0.5 * amount,
        "demonstrations": round(50 * amount),
        "trials": tuple(trial(scene, count) for scene, count in enumerate(passed)),
        "horizons": (1, 10, 25), "open_loop": (0.1, error, None), "digests": {"bundle": f"{amount}-{seed}"},
    }  # fmt: skip
    return TrainedRun(**{**values, **changes})


def study_runs(law: PowerLaw, *, repeats: int = 3, trials: int = 60, seed: int = 0) -> list[TrainedRun]:
    """Policies whose failures and whose open-loop error follow `law` over the hours, nearly."""
    rng = np.random.default_rng(seed)
    runs = []
    for amount in (0.125, 0.25, 0.5, 1.0):
        failures = float(law.at([0.5 * amount])[0])
        for number in range(repeats):
            passed = np.where(rng.random(trials) < failures, rng.integers(0, 4, trials), 4).tolist()
            error = 2 * failures * float(np.exp(0.02 * rng.normal()))
            runs.append(trained(amount, number, passed, error))
    return runs
