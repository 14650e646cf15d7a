"""The gate: is the evidence good enough for an alias to move? A pure function of evaluations and thresholds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.errors import UserError

NO_EVIDENCE = "no closed-loop evidence"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What the gate asks for. Rates are fractions from 0 to 1.

    Attributes:
        min_trials: closed-loop trials of the policy.
        min_success_rate: the lower 95% bound of SR must reach it.
        min_advantage: the lower 95% bound of the paired difference to replaying the mean trajectory must be above it.
        max_control_success_rate: above it, an untrained or blinded policy solves the task, which is warned about.
        max_drop: SR may be lower than the present champion's by this much at most.
    """

    min_trials: int = 50
    min_success_rate: float = 0.4
    min_advantage: float = 0.0
    max_control_success_rate: float = 0.05
    max_drop: float = 0.05

    def __post_init__(self) -> None:
        if self.min_trials < 1:
            raise UserError(f"promote.min_trials {self.min_trials} must be at least 1")
        for name in ("min_success_rate", "max_control_success_rate", "max_drop"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"promote.{name} {value} must be from 0 to 1: it is a fraction, not a percentage")
        if not -1 <= self.min_advantage <= 1:
            raise UserError(f"promote.min_advantage {self.min_advantage} must be from -1 to 1: it is a fraction")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question of the gate and its answer, as a sentence with the numbers."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    promote: bool
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why: every check when it passed, those that failed when it did not."""
        return tuple(check.message for check in self.checks if self.promote or not check.passed)

    def sentence(self) -> str:
        return ("passed: " if self.promote else "not promoted: ") + "; ".join(self.reasons)

    def to_json(self) -> dict[str, Any]:
        return {"promote": self.promote, "reasons": list(self.reasons), **asdict(self)}


def decide(
    evaluation: Mapping[str, Any], champion_evaluation: Mapping[str, Any] | None, thresholds: Thresholds
) -> Verdict:
    """The verdict on a candidate.

    Args:
        evaluation: of the candidate, as `evaluate` writes it.
        champion_evaluation: of the version that holds the alias now; None when nobody does, or the candidate itself.
        thresholds: what to ask for.

    Raises:
        UserError: the evaluation lacks a figure that the gate reads; names it.
    """
    closed_loop = evaluation.get("closed_loop")
    if not closed_loop:
        why = evaluation.get("closed_loop_reason")
        message = f"{NO_EVIDENCE} ({why})" if why else NO_EVIDENCE
        return Verdict(promote=False, checks=(Check(name="evidence", passed=False, message=message),), warnings=())
    policy = _policy_figures(evaluation)
    checks = [
        Check(
            name="trials",
            passed=policy["trials"] >= thresholds.min_trials,
            message=f"{policy['trials']:.0f} trials, at least {thresholds.min_trials} are asked for",
        ),
        Check(
            name="success_rate",
            passed=policy["sr_low"] >= thresholds.min_success_rate,
            message=f"SR {policy['sr']:.0%} with a lower bound of {policy['sr_low']:.0%}, "
            f"at least {thresholds.min_success_rate:.0%} is asked for",
        ),
        _advantage(evaluation, thresholds),
    ]
    if champion_evaluation is not None:
        checks.append(_not_worse(evaluation, policy, champion_evaluation, thresholds))
    return Verdict(
        promote=all(check.passed for check in checks),
        checks=tuple(checks),
        warnings=tuple(_warnings(closed_loop, thresholds)),
    )


def _advantage(evaluation: Mapping[str, Any], thresholds: Thresholds) -> Check:
    if not (evaluation.get("paired") or {}).get("vs_mean_replay"):
        message = "not compared with replaying the mean trajectory on the same seeds"
        return Check(name="advantage", passed=False, message=message)
    paired = _figures(evaluation, ("paired", "vs_mean_replay"), ("difference", "low"))
    return Check(
        name="advantage",
        passed=paired["low"] > thresholds.min_advantage,
        message=f"{100 * paired['difference']:+.0f} points against replaying the mean trajectory on the same seeds "
        f"(lower bound {100 * paired['low']:+.0f}), more than {100 * thresholds.min_advantage:+.0f} is asked for",
    )


def _not_worse(
    evaluation: Mapping[str, Any],
    policy: Mapping[str, float],
    champion_evaluation: Mapping[str, Any],
    thresholds: Thresholds,
) -> Check:
    task, champion_task = evaluation.get("task"), champion_evaluation.get("task")
    if not champion_evaluation.get("closed_loop"):
        return Check(name="not_worse", passed=True, message="the champion has no closed-loop evidence to compare with")
    if task != champion_task:
        return Check(
            name="not_worse",
            passed=False,
            message=f"evaluated on the task '{task}', the champion on '{champion_task}': these cannot be compared",
        )
    champion = _policy_figures(champion_evaluation)
    drop = champion["sr"] - policy["sr"]
    return Check(
        name="not_worse",
        # A difference of exactly the margin passes, whatever the rounding.
        passed=drop <= thresholds.max_drop + 1e-9,
        message=f"SR {policy['sr']:.0%} against {champion['sr']:.0%} of the champion, "
        f"at most {100 * thresholds.max_drop:.0f} points lower is allowed",
    )


def _warnings(closed_loop: Mapping[str, Any], thresholds: Thresholds) -> list[str]:
    names = {"untrained": "the untrained policy", "blank_images": "the policy with blanked images"}
    return [
        f"{who} has SR {closed_loop[key]['sr']:.0%}, above {thresholds.max_control_success_rate:.0%}: "
        f"the task may be solved without learning or looking"
        for key, who in names.items()
        if closed_loop.get(key) and closed_loop[key]["sr"] > thresholds.max_control_success_rate
    ]


def _policy_figures(evaluation: Mapping[str, Any]) -> dict[str, float]:
    return _figures(evaluation, ("closed_loop", "policy"), ("trials", "sr", "sr_low"))


def _figures(evaluation: Mapping[str, Any], path: tuple[str, ...], names: tuple[str, ...]) -> dict[str, float]:
    part: Any = evaluation
    for key in path:
        part = part.get(key) if isinstance(part, Mapping) else None
    for name in names:
        value = part.get(name) if isinstance(part, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(
                f"the evaluation has no number '{'.'.join((*path, name))}', which the gate reads: evaluate again"
            )
    return {name: float(part[name]) for name in names}
