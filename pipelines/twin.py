"""The same run with depth alignment switched over: shown beside a run, so that what alignment brings is seen.

A twin is an earlier finished run on this machine with the same packed data and the same parameters of training and
evaluation, but `pretrain.depth_weight`, which is zero in one of the two.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# What an evaluation measures beside the policy itself; it does not make runs differ.
_BESIDE = {"baselines", "language", "other_task", "open_loop_looks"}
_TRIALS = "trials.jsonl"


def find_twin(run: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Figures of the newest twin among `earlier`, newest first: its run, whether it aligned depth, its scores, and the
    paired difference of this run's policy to its. None when there is none with closed-loop trials."""
    wanted = _identity(run)
    if wanted is None:
        return None
    for other in earlier:
        found = _identity(other)
        if other["id"] == run["id"] or found is None or found["same"] != wanted["same"]:
            continue
        if found["aligned"] == wanted["aligned"]:
            continue
        from model.evaluation.scoring import compare

        return {
            "run": other["id"],
            "aligned": found["aligned"],
            "policy": found["evaluate"]["summary"]["closed_loop"]["policy"],
            "paired": compare(_policy_trials(wanted), _policy_trials(found)).to_json(),
        }
    return None


def _identity(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """What two twins share, and in what they differ; None of a run without closed-loop trials of its policy."""
    steps = {entry["name"]: entry for entry in run["steps"]}
    if not all(name in steps for name in ("pack", "pretrain", "finetune", "evaluate")):
        return None
    evaluate = steps["evaluate"]
    if not isinstance(evaluate.get("summary", {}).get("closed_loop"), Mapping):
        return None
    if not (Path(evaluate["folder"]) / _TRIALS).exists():
        return None
    pretrain = dict(steps["pretrain"]["parameters"])
    weight = pretrain.pop("depth_weight")
    judged = {name: value for name, value in evaluate["parameters"].items() if name not in _BESIDE}
    same = (steps["pack"].get("digest"), pretrain, steps["finetune"]["parameters"], judged)
    return {"same": same, "aligned": weight > 0, "evaluate": evaluate}


def _policy_trials(identity: Mapping[str, Any]) -> list[Any]:
    from model.evaluation.records import group, read_trials

    return group(read_trials(Path(identity["evaluate"]["folder"]) / _TRIALS))["policy"]
