"""From trial records to the figures of an evaluation: scores, paired differences, and what language changed."""

from collections.abc import Sequence
from typing import Any

from model.evaluation.closed_loop import BASELINES, CONDITIONS, LANGUAGE
from model.evaluation.records import TrialRecord, group
from model.evaluation.scoring import compare, score, wilson


def closed_loop_figures(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """`closed_loop`, `paired` and `language` of evaluation.json.

    - closed_loop: SR and PS of each condition.
    - paired: SR of the policy minus SR of each baseline, and of each right instruction minus the swapped one, on the
      same seeds.
    - language: on the seeds where the right instruction succeeded, how often the swapped one still did.
    """
    found = group(records)
    trials = {name: found[name] for name in (*CONDITIONS, *found) if name in found}
    paired = {
        f"vs_{name}": compare(trials["policy"], trials[name]).to_json()
        for name in BASELINES
        if name in trials and "policy" in trials
    }
    language = {}
    for swapped, right in LANGUAGE.items():
        if swapped in trials and right in trials:
            paired[swapped] = compare(trials[right], trials[swapped]).to_json()
            language[swapped] = _after_swap(trials[right], trials[swapped])
    return {
        "closed_loop": {name: score(of_condition).to_json() for name, of_condition in trials.items()},
        "paired": paired,
        "language": language,
    }


def _after_swap(right: Sequence[TrialRecord], swapped: Sequence[TrialRecord]) -> dict[str, Any]:
    """How often `swapped` succeeded on the seeds where the right instruction did; rates are null without any."""
    solved = {record.seed for record in right if record.success}
    still = sum(record.success for record in swapped if record.seed in solved)
    if not solved:
        return {"trials": 0, "successes": 0, "sr": None, "sr_low": None, "sr_high": None}
    low, high = wilson(still, len(solved))
    rate = still / len(solved)
    return {
        "trials": len(solved),
        "successes": still,
        "sr": round(rate, 6),
        "sr_low": round(low, 6),
        "sr_high": round(high, 6),
    }
