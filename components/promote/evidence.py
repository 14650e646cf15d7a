"""The bytes that a verdict on a registered version follows from: its evaluation and trials, and the champion's."""

import hashlib
import json
from pathlib import Path

from components import kept, state
from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.bundles import read_evaluation
from components.ledger import Ledger
from components.promote.gate import Inputs
from components.promote.replays import replay_of
from model.errors import UserError

TRIALS = "trials.jsonl"


def gather(version: ModelVersion, alias: str) -> Inputs:
    """What the gate reads to judge a version against the holder of an alias.

    Raises:
        UserError: the evaluation or the trials of either were lost or changed.
    """
    champion = champion_of(version.model, alias)
    rival = champion if champion is not None and champion.version != version.version else None
    evaluation, trials = _evidence_of(version)
    theirs, their_trials = (None, None) if rival is None else _evidence_of(rival)
    return Inputs(
        evaluation=evaluation,
        trials=trials,
        champion_evaluation=theirs,
        champion_trials=their_trials,
        replay=replay_of(version),
    )


def champion_of(model: str, alias: str) -> ModelVersion | None:
    """The alias's holder by the ledger, and by the registry where the ledger knows none: an alias that was moved past
    the ledger, or taken away, would lower the bar for who comes next. None when nobody holds it, or it was deleted."""
    moves = Ledger().moves(model, alias)
    if not moves:
        return tracking.version_of_alias(model, alias)
    return next((version for version in tracking.list_versions(model) if version.version == moves[-1].target), None)


def keep_trials(folder: Path) -> str | None:
    """Stores the trials that lie beside an evaluation.json; None when it does not name any by digest.

    Raises:
        UserError: they are not those that the evaluation counted.
    """
    recorded = _trials_digest((folder / "evaluation.json").read_bytes())
    if recorded is None:
        return None
    path = folder / TRIALS
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != recorded:
        raise UserError(
            f"{path} is not the file that the evaluation beside it counted (sha256 {recorded[:12]}): evaluate again"
        )
    kept.keep(_key(recorded), content)
    return recorded


def _evidence_of(version: ModelVersion) -> tuple[bytes | None, bytes | None]:
    digest = version.tags.get("evaluation_digest")
    if not digest:
        return None, None
    evaluation = read_evaluation(digest)
    recorded = _trials_digest(evaluation)
    return evaluation, None if recorded is None else read_trials(recorded)


def _trials_digest(evaluation: bytes) -> str | None:
    digest = (json.loads(evaluation).get("digests") or {}).get("trials")
    return None if digest is None else str(digest)


def read_trials(digest: str) -> bytes | None:
    """The trials of that digest; None when no gate has kept them yet (an evaluation registered and never judged)."""
    path, content = state.home() / _key(digest), kept.find(_key(digest))
    if content is None:
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"the trials {path} were changed after they were stored: evaluate and register again")
    return content


def _key(digest: str) -> str:
    return f"trials/{digest}.jsonl"
