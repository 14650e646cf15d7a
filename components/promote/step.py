"""Moves the alias `champion` to the new version if the gate passes, and says why if it does not."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components import state
from components.adapters import tracking
from components.ledger import Ledger
from components.promote.evidence import keep_trials
from components.promote.gate import Check, Verdict, load_policy
from components.promote.moves import promote, taken_back
from components.promote.verdicts import judge
from components.register.step import VERSION_FILE
from model.errors import UserError
from model.progress import Progress

NAME = "promote"
INPUTS = ("version", "evaluation")
SCHEMA_VERSION = 2
PROMOTION_FILE, VERDICT_FILE = "promotion.json", "verdict.json"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What the gate asks for, and the alias that it guards.

    Attributes:
        policy: YAML of the gate; empty: `components/promote/gates/default.yaml`.
        alias: what is moved.
    """

    policy: str = ""
    alias: str = "champion"

    def __post_init__(self) -> None:
        if not self.alias or self.alias == "latest" or (self.alias[:1] == "v" and self.alias[1:].isdigit()):
            raise UserError(f"promote.alias '{self.alias}' is reserved or empty: choose a name such as champion")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Judges the version and moves the alias on a pass. A refusal is a result, not an error: `promotion.json` has it.

    `verdict.json` is the gate's answer as it was given, with the sha256 of each input; `promotion.json` also has what
    the ledger said.

    Raises:
        UserError: the evaluation is not the one that the version was registered with, or the registry is away.
    """
    policy = load_policy(Path(parameters.policy) if parameters.policy else None)
    registered = json.loads((inputs["version"] / VERSION_FILE).read_text())
    evaluated = hashlib.sha256((inputs["evaluation"] / "evaluation.json").read_bytes()).hexdigest()
    if evaluated != registered["evaluation_digest"]:
        raise UserError(
            f"version {registered['version']} was registered with evaluation {registered['evaluation_digest'][:12]}, "
            f"the one given here is {evaluated[:12]}: register it with this one first"
        )
    version = tracking.get_version(registered["model"], registered["version"])
    if version.digest != registered["bundle_digest"]:
        raise UserError(
            f"{version.model} version {version.version} is bundle {version.digest[:12]} in the registry, and "
            f"{registered['bundle_digest'][:12]} by its record: the registry was replaced; register again"
        )
    keep_trials(inputs["evaluation"])
    judged = judge(version, parameters.alias, policy)
    verdict = _respect_rollback(judged, version, parameters.alias)
    if verdict.promote:
        progress.message(f"moving '{parameters.alias}' to version {version.version}")
        promote(version, parameters.alias, verdict)
    result = {
        "schema_version": SCHEMA_VERSION,
        "model": version.model,
        "version": version.version,
        "alias": parameters.alias,
        "promoted": verdict.promote,
        "verdict": verdict.to_json(),
        "bundle_digest": version.digest,
        "evaluation_digest": evaluated,
    }
    state.write_json(output / VERDICT_FILE, judged.to_json())
    state.write_json(output / PROMOTION_FILE, result)
    return {
        "model": version.model,
        "version": version.version,
        "alias": parameters.alias,
        "promoted": verdict.promote,
        "verdict": verdict.sentence() if not verdict.promote else f"promoted: {'; '.join(verdict.reasons)}",
        "warnings": list(verdict.warnings),
    }


def verify(output: Path) -> bool:
    """Whether what the finished step did can still be seen: a promotion is in the ledger, and the alias is set.

    The alias may point elsewhere by now, when the ledger says how it came there: a later promotion or a rollback is not
    undone by running the pipeline again.
    """
    written = json.loads((output / PROMOTION_FILE).read_text())
    if not written["promoted"]:
        return True
    present = tracking.version_of_alias(written["model"], written["alias"])
    history = Ledger().moves(written["model"], written["alias"])
    recorded = any(
        entry.target == written["version"] and entry.bundle_digest == written["bundle_digest"] for entry in history
    )
    return recorded and present is not None and present.version == history[-1].target


def _respect_rollback(verdict: Verdict, version: tracking.ModelVersion, alias: str) -> Verdict:
    """A person's rollback is not undone by a pipeline: only `lingbot models promote` promotes such a version again."""
    entry = taken_back(version, alias) if verdict.promote else None
    if entry is None:
        return verdict
    message = f"it was rolled back by {entry.who} on {entry.time[:10]} ({'; '.join(entry.reasons)}): promote it by hand"
    checks = (*verdict.checks, Check(name="rolled_back", passed=False, message=message))
    return replace(verdict, promote=False, checks=checks)
