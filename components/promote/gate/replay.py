"""What robots would have been sent: a replay of recorded traffic through the candidate, held against the policy."""

from collections.abc import Mapping
from typing import Any

from components.promote.gate.policy import Policy
from components.promote.gate.verdict import Check
from model.errors import UserError

AGAIN = "replay again: lingbot models replay RECORDING --candidate VERSION"


def check_replay(replay: Mapping[str, Any] | None, evaluation: Mapping[str, Any], policy: Policy) -> list[Check]:
    """The checks that a policy asks for; none when it asks for none.

    Raises:
        UserError: the report is of another bundle, or lacks what is read of it.
    """
    if not policy.asks_for_replay:
        return []
    if replay is None:
        return [Check(name="replay", passed=False, message="no recorded traffic was replayed through it")]
    of = _read(replay, "candidate", "bundle_digest")
    if of != evaluation.get("bundle_digest"):
        raise UserError(f"the replay is of bundle {str(of)[:12]}, the evaluation of another one: {AGAIN}")
    looks, unsafe = _number(replay, "looks"), _number(replay, "unsafe", "count")
    checks = [
        Check(
            name="replay",
            passed=looks >= (policy.min_replay_looks or 1) and unsafe == 0,
            message=f"{looks:.0f} recorded looks replayed, at least {policy.min_replay_looks or 1} are asked for; "
            f"{unsafe:.0f} answers could not have been sent",
        )
    ]
    broken, values = _number(replay, "violations", "candidate"), _number(replay, "violations", "values")
    measured = {
        "max_replay_divergence": ("replay_divergence", _number(replay, "divergence", "mean"), "standard deviations"),
        "max_replay_jerk": ("replay_jerk", _ratio(replay), "times that of what was sent"),
        "max_replay_violations": ("replay_violations", broken / max(values, 1.0), "of the values beyond a limit"),
        "max_replay_latency_ms": ("replay_latency", _number(replay, "latency_ms", "candidate", "p99"), "ms (p99)"),
    }
    limits = policy.to_json()
    for key, (name, value, unit) in measured.items():
        most = limits.get(key)
        if most is not None:
            said = f"{name.replace('_', ' ')} {value:.3g} {unit}, at most {most:g} is allowed"
            checks.append(Check(name=name, passed=value <= most, message=said))
    return checks


def _ratio(replay: Mapping[str, Any]) -> float:
    """Of the jerks; a recording without any is exceeded by every movement that is not smooth."""
    sent, own = _number(replay, "jerk", "recorded"), _number(replay, "jerk", "candidate")
    return own / sent if sent > 0 else (0.0 if own == 0 else float("inf"))


def _read(replay: Mapping[str, Any], *keys: str) -> Any:
    value: Any = replay
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise UserError(f"the replay lacks {'.'.join(keys)}: {AGAIN}")
        value = value[key]
    return value


def _number(replay: Mapping[str, Any], *keys: str) -> float:
    value = _read(replay, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UserError(f"the replay's {'.'.join(keys)} is {value!r}, not a number of 0 or more: {AGAIN}")
    return float(value)
