"""A verdict that is bound to its inputs: the sha256 of each stands in it, and a changed input is refused.

`verify` does not stop at the digests, which anybody could write anew: the gate is a pure function, so it is asked
again, and what it says must be the verdict to the last character.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from components.promote.gate.decision import decide
from components.promote.gate.policy import Policy, make_policy
from components.promote.gate.verdict import SCHEMA_VERSION, Verdict, digest_of
from model.errors import UserError
from model.evaluation.records import TrialRecord, check_together, from_line


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a verdict follows from, as the bytes that were read; None for what there was not.

    Attributes:
        evaluation: the candidate's evaluation.json.
        trials: its trials.jsonl.
        champion_evaluation, champion_trials: those of the version that held the alias; None when nobody did, or the
            candidate itself.
        replay: report of a recording that was replayed through the candidate.
    """

    evaluation: bytes | None
    trials: bytes | None = None
    champion_evaluation: bytes | None = None
    champion_trials: bytes | None = None
    replay: bytes | None = None

    def digests(self, policy: Policy) -> dict[str, str | None]:
        contents = {
            "evaluation": self.evaluation,
            "trials": self.trials,
            "champion_evaluation": self.champion_evaluation,
            "champion_trials": self.champion_trials,
        }
        hashed = {name: None if content is None else _sha256(content) for name, content in contents.items()}
        if self.replay is not None:  # verdicts without one are as they were before there were any
            hashed["replay"] = _sha256(self.replay)
        return {**hashed, "policy": policy.digest}


def judge_inputs(inputs: Inputs, policy: Policy) -> Verdict:
    """The gate's verdict on these bytes, bound to them.

    Raises:
        UserError: they cannot be read, do not belong together, or lack what the gate reads.
    """
    verdict = decide(
        _evaluation(inputs.evaluation, inputs.trials, "the candidate's") or {},
        _evaluation(inputs.champion_evaluation, inputs.champion_trials, "the champion's"),
        policy,
        trials=_trials(inputs.trials, "the candidate's"),
        champion_trials=_trials(inputs.champion_trials, "the champion's"),
        replay=None if inputs.replay is None else json.loads(inputs.replay),
    )
    return replace(verdict, inputs=inputs.digests(policy))


def verify(verdict: Mapping[str, Any], inputs: Inputs) -> None:
    """Refuse a verdict that is not the gate's on these inputs.

    Args:
        verdict: as `Verdict.to_json` gives it.
        inputs: what it claims to follow from.

    Raises:
        UserError: the verdict or one of the inputs was edited; says which.
    """
    if verdict.get("schema_version") != SCHEMA_VERSION or not isinstance(verdict.get("inputs"), Mapping):
        found = verdict.get("schema_version")
        raise UserError(f"the verdict has schema_version {found!r}, this gate writes {SCHEMA_VERSION}: judge again")
    if verdict.get("digest") != digest_of(verdict):
        raise UserError("the verdict was edited after it was given: its digest is of other values; judge again")
    policy = make_policy(verdict["policy"], "of the verdict")
    now = inputs.digests(policy)
    for name in [*now, *(name for name in verdict["inputs"] if name not in now)]:
        given, recorded = now.get(name), verdict["inputs"].get(name)
        if recorded != given:
            raise UserError(
                f"the verdict was given on {name.replace('_', ' ')} {_short(recorded)}, which is {_short(given)} now: "
                f"it was edited or replaced; judge again"
            )
    again = judge_inputs(inputs, policy).to_json()
    if again["digest"] != verdict["digest"]:
        raise UserError(
            f"the verdict is not what the gate says on its inputs (promote {again['promote']}, "
            f"the verdict has {verdict['promote']}): it was forged, or by another version of the gate; judge again"
        )


def _evaluation(content: bytes | None, trials: bytes | None, whose: str) -> dict[str, Any] | None:
    if content is None:
        return None
    try:
        evaluation = json.loads(content)
    except ValueError as error:
        raise UserError(
            f"{whose} evaluation is not JSON ({error}): give the evaluation.json of an evaluate step"
        ) from error
    if not isinstance(evaluation, dict):
        raise UserError(f"{whose} evaluation is a {type(evaluation).__name__}: give an evaluation.json")
    recorded = (evaluation.get("digests") or {}).get("trials")
    if trials is not None and recorded is not None and recorded != _sha256(trials):
        raise UserError(
            f"{whose} trial records are {_short(_sha256(trials))}, the evaluation counted {_short(recorded)}: "
            f"they were edited or are of another evaluation; evaluate again"
        )
    return evaluation


def _trials(content: bytes | None, whose: str) -> tuple[TrialRecord, ...]:
    if not content:
        return ()
    where = f"{whose} trials.jsonl"
    lines = content.decode("utf-8").splitlines()
    records = [from_line(line, f"{where}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    check_together(records, where)
    return tuple(records)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _short(digest: str | None) -> str:
    return "absent" if digest is None else digest[:12]
