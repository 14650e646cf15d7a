"""Is the evidence what it says it is? Nothing of it was trained on, and the figures are those of the trials."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.promote.gate.figures import AGAIN, read_figures
from components.promote.gate.policy import Policy
from components.promote.gate.trials import headline, judged
from components.promote.gate.verdict import Check
from model.errors import UserError
from model.evaluation.leakage import Ranges, digest_of_seeds, shared
from model.evaluation.records import TrialRecord

UNRECORDED = "the evaluation does not say what training saw, so nobody knows whether it was judged on its training data"


def check_consistent(evaluation: Mapping[str, Any], trials: Sequence[TrialRecord], whose: str) -> None:
    """Refuse trial records that are not those that the evaluation counted.

    Raises:
        UserError: they are of another bundle or robot, or their successes are not the evaluation's.
    """
    if not trials:
        return
    for name, expected in (("bundle_digest", evaluation.get("bundle_digest")), ("robot", evaluation.get("robot"))):
        other = next((trial for trial in judged(trials) if getattr(trial, name) != expected), None)
        if other is not None:
            raise UserError(
                f"{whose}: {other.name} is of {name} '{getattr(other, name)}', the evaluation of '{expected}': "
                f"give the trials of this evaluation"
            )
    counted = read_figures(evaluation, ("closed_loop", "policy"), ("trials", "successes"))
    ours = headline(trials)
    found = {"trials": len(ours), "successes": sum(trial.success for trial in ours)}
    if counted != found:
        raise UserError(
            f"{whose}: the evaluation counts {counted['successes']:.0f} successes of {counted['trials']:.0f} trials, "
            f"its trial records {found['successes']} of {found['trials']}: {AGAIN}"
        )


def check_leakage(
    evaluation: Mapping[str, Any], trials: Sequence[TrialRecord], policy: Policy
) -> tuple[list[Check], list[str]]:
    """The check that nothing evaluated was trained on, and warnings.

    The overlaps are computed again here from the recorded ranges; the list that the evaluation gives is not trusted
    to be all of them. The digest says whether those ranges are the seeds that ran. What the policy was trained on
    without leaving a record is a warning.
    """
    record = evaluation.get("leakage")
    if not isinstance(record, Mapping):
        if policy.require_leakage_record:
            return [Check(name="leakage", passed=False, message=f"{UNRECORDED}: {AGAIN}")], []
        return [], [UNRECORDED]
    faults = _faults(evaluation, record, trials)
    if faults:
        return [Check(name="leakage", passed=False, message="; ".join(faults))], []
    warnings = [f"{sentence}: leakage from there is not checked" for sentence in record.get("unknown", ())]
    known = record["training_seeds"] is not None
    scenes = "no evaluated scene" if known else "scenes of training are not known, and no held-out episode"
    message = f"{scenes} was trained on ({record['training_episodes']} episodes in training)"
    return [Check(name="leakage", passed=True, message=message)], warnings


def _faults(evaluation: Mapping[str, Any], record: Mapping[str, Any], trials: Sequence[TrialRecord]) -> list[str]:
    evaluated = _ranges(record, "evaluation_seeds")
    trained = [] if record.get("training_seeds") is None else _ranges(record, "training_seeds")
    faults = []
    leaked = shared(evaluated, trained)
    if leaked:
        count = sum(last - first + 1 for first, last in leaked)
        faults.append(f"{count} evaluated scenes were trained on: seeds {_spoken(leaked)}")
    copies = record.get("shared_episodes")
    if not isinstance(copies, list):
        raise UserError(f"the evaluation's leakage.shared_episodes is {copies!r}: it must be a list, {AGAIN}")
    if copies:
        faults.append(
            f"{len(copies)} held-out episodes are in training too: "
            + ", ".join(f"{held_out} as {number}" for held_out, number in copies[:5])
        )
    ran = {trial.seed for trial in trials if trial.seed is not None}
    digest = (evaluation.get("digests") or {}).get("evaluation_seeds")
    seeds = ran or {seed for first, last in evaluated for seed in range(first, last + 1)}
    if digest != digest_of_seeds(seeds):
        whose = "that ran" if ran else "that are recorded"
        faults.append(f"the seeds {whose} are not those whose digest the evaluation gives ({str(digest)[:12]})")
    outside = [seed for seed in ran if not any(first <= seed <= last for first, last in evaluated)]
    if outside:
        faults.append(f"{len(outside)} seeds ran that the evaluation does not record, first {min(outside)}")
    return faults


def _ranges(record: Mapping[str, Any], name: str) -> Ranges:
    ranges = record.get(name)
    sound = isinstance(ranges, list) and all(
        isinstance(each, list) and len(each) == 2 and all(type(end) is int for end in each) and each[0] <= each[1]
        for each in ranges
    )
    if not sound:
        raise UserError(f"the evaluation's leakage.{name} is {ranges!r}: it must list [first, last] seeds, {AGAIN}")
    assert isinstance(ranges, list)
    return ranges


def _spoken(ranges: Ranges) -> str:
    text = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges[:5])
    return text + (", ..." if len(ranges) > 5 else "")
