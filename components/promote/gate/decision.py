"""The gate: is the evidence good enough for an alias to move? A pure function of evaluations, trials and a policy."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.promote.gate.comparison import against_champion
from components.promote.gate.figures import read_figures, read_rate
from components.promote.gate.policy import Policy
from components.promote.gate.replay import check_replay
from components.promote.gate.soundness import check_consistent, check_leakage
from components.promote.gate.trials import judged
from components.promote.gate.verdict import Check, Verdict
from model.evaluation.records import TrialRecord

NO_EVIDENCE = "no closed-loop evidence"


def decide(
    evaluation: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    policy: Policy,
    *,
    trials: Sequence[TrialRecord] = (),
    champion_trials: Sequence[TrialRecord] = (),
    replay: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on a candidate.

    Args:
        evaluation: of the candidate, as `evaluate` writes it.
        champion: evaluation of the version that holds the alias now; None when nobody does, or the candidate itself.
        policy: what to ask for.
        trials: the candidate's trial records; without them it is judged by its figures alone.
        champion_trials: the champion's.
        replay: of recorded traffic through the candidate, as `lingbot models replay` reports it.

    Raises:
        UserError: a figure that the gate reads is absent or not finite, or records are not those of the evaluation.
    """
    closed_loop = evaluation.get("closed_loop")
    if not closed_loop:
        why = evaluation.get("closed_loop_reason")
        message = f"{NO_EVIDENCE} ({why})" if why else NO_EVIDENCE
        check = Check(name="evidence", passed=False, message=message)
        return Verdict(promote=False, checks=(check,), warnings=(), policy=policy)
    check_consistent(evaluation, trials, "the candidate")
    if champion is not None:
        check_consistent(champion, champion_trials, "the champion")
    leakage, warnings = check_leakage(evaluation, trials, policy)
    checks = [
        *_subject(evaluation, policy),
        *_rates(evaluation, policy),
        _advantage(evaluation, policy),
        *_safety(trials, policy),
        *leakage,
        *check_replay(replay, evaluation, policy),
    ]
    if champion is not None:
        checks += against_champion(evaluation, champion, policy, trials, champion_trials)
    return Verdict(
        promote=all(check.passed for check in checks),
        checks=tuple(checks),
        warnings=(*_controls(evaluation, policy), *warnings),
        policy=policy,
    )


def _subject(evaluation: Mapping[str, Any], policy: Policy) -> list[Check]:
    return [
        Check(
            name=name,
            passed=evaluation.get(name) == wanted,
            message=f"evaluated on the {name} '{evaluation.get(name)}', the gate is for '{wanted}'",
        )
        for name, wanted in (("task", policy.task), ("robot", policy.robot))
        if wanted
    ]


def _rates(evaluation: Mapping[str, Any], policy: Policy) -> list[Check]:
    success = read_rate(evaluation, "policy", "sr")
    checks = [
        Check(
            name="trials",
            passed=success["trials"] >= policy.min_trials,
            message=f"{success['trials']:.0f} trials, at least {policy.min_trials} are asked for",
        )
    ]
    wanted = {"sr": ("success_rate", policy.min_success_rate), "ps": ("progress_score", policy.min_progress_score)}
    for rate, (name, least) in wanted.items():
        if least is not None:
            figures = read_rate(evaluation, "policy", rate)
            checks.append(
                Check(
                    name=name,
                    passed=figures[f"{rate}_low"] >= least,
                    message=f"{rate.upper()} {figures[rate]:.0%} with a lower bound of {figures[f'{rate}_low']:.0%}, "
                    f"at least {least:.0%} is asked for",
                )
            )
    return checks


def _advantage(evaluation: Mapping[str, Any], policy: Policy) -> Check:
    if not (evaluation.get("paired") or {}).get("vs_mean_replay"):
        message = "not compared with replaying the mean trajectory on the same seeds"
        return Check(name="advantage", passed=False, message=message)
    paired = read_figures(evaluation, ("paired", "vs_mean_replay"), ("difference", "low"))
    return Check(
        name="advantage",
        passed=paired["low"] > policy.min_advantage,
        message=f"{100 * paired['difference']:+.0f} points against replaying the mean trajectory on the same seeds "
        f"(lower bound {100 * paired['low']:+.0f}), more than {100 * policy.min_advantage:+.0f} is asked for",
    )


def _safety(trials: Sequence[TrialRecord], policy: Policy) -> list[Check]:
    """Violations and latency, of every trial of the policy. What is asked for and was not measured is not passed."""
    ours = judged(trials)
    limits = {"limit_violations": policy.max_limit_violations, "velocity_violations": policy.max_velocity_violations}
    counts = {
        "limit_violations": sum(trial.violations.limits for trial in ours),
        "velocity_violations": sum(trial.violations.velocity for trial in ours),
    }
    checks = []
    for name, most in limits.items():
        if most is not None:
            what = name.replace("_", " ")
            said = f"{counts[name]} {what} in {len(ours)} trials" if ours else f"{what} were not recorded"
            passed = bool(ours) and counts[name] <= most
            checks.append(Check(name=name, passed=passed, message=f"{said}, at most {most} are allowed"))
    if policy.max_latency_ms is not None:
        measured = [trial.client_latency_ms.p99 for trial in ours if trial.client_latency_ms is not None]
        whole = bool(ours) and len(measured) == len(ours)
        said = f"latency up to {max(measured):.0f} ms" if whole else f"latency of {len(measured)} of {len(ours)} trials"
        message = f"{said} (99th percentile), at most {policy.max_latency_ms:g} ms in each is allowed"
        checks.append(Check(name="latency", passed=whole and max(measured) <= policy.max_latency_ms, message=message))
    return checks


def _controls(evaluation: Mapping[str, Any], policy: Policy) -> list[str]:
    names = {"untrained": "the untrained policy", "blank_images": "the policy with blanked images"}
    rates = {
        who: read_figures(evaluation, ("closed_loop", key), ("sr",))["sr"]
        for key, who in names.items()
        if evaluation["closed_loop"].get(key)
    }
    return [
        f"{who} has SR {rate:.0%}, above {policy.max_control_success_rate:.0%}: "
        f"the task may be solved without learning or looking"
        for who, rate in rates.items()
        if rate > policy.max_control_success_rate
    ]
