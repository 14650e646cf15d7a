"""The gate's verdicts on registered versions: given, kept, and checked before an alias moves by one.

The registry keeps the last verdict on each version as a tag; `verdicts/<digest>.json` in storage keeps every one, which
is what the ledger's entries name.
"""

import json
from typing import Any

from components import kept, state
from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.bundles import read_evaluation
from components.promote.evidence import champion_of, gather
from components.promote.gate import Policy, Verdict, judge_inputs, load_policy, make_policy, verify
from components.promote.gate.verdict import SCHEMA_VERSION, digest_of
from components.register.card import with_verdict
from model.errors import UserError

VERDICT_TAG = "verdict"
_ABOUT = ("alias", "champion")  # what the tag has beside the verdict


def judge(version: ModelVersion, alias: str, policy: Policy) -> Verdict:
    """The gate's verdict on a registered version against the holder of the alias, kept with the version.

    Raises:
        UserError: the evaluation or the trials of either were lost or changed.
    """
    verdict = judge_inputs(gather(version, alias), policy)
    champion = champion_of(version.model, alias)
    values = verdict.to_json()
    stored = {"alias": alias, **values, "champion": champion.version if champion is not None else None}
    _keep(values)
    tracking.tag_version(version, {VERDICT_TAG: json.dumps(stored, sort_keys=True)})
    if version.description:
        tracking.describe_version(version, with_verdict(version.description, stored))
    return verdict


def standing_verdict(version: ModelVersion, alias: str) -> Verdict:
    """What the version may be promoted by now.

    That is the stored verdict when it still follows from its inputs. When none was given, the alias has another holder
    since, or traffic was replayed since, the gate is asked again, for what it was asked for before (or what ships).

    Raises:
        UserError: the stored verdict was edited, or what it follows from was edited, replaced or lost.
    """
    stored = stored_verdict(version)
    if stored is None:
        return judge(version, alias, load_policy())
    if stored.get("schema_version") != SCHEMA_VERSION:
        # Verdicts of schema 1 have the thresholds of that time, which are keys of a policy still, and no digest.
        return judge(version, alias, make_policy(stored["thresholds"], "that judged the version"))
    values = {name: value for name, value in stored.items() if name not in _ABOUT}
    if values.get("digest") != digest_of(values):
        raise UserError(
            f"the verdict that is stored with {version.model} version {version.version} was edited after it was "
            f"given: judge it by the gate that ships (lingbot models promote {version.version} --judge-again)"
        )
    policy = make_policy(values["policy"], "of the stored verdict")
    inputs = gather(version, alias)
    now = inputs.digests(policy)
    names = sorted(values["inputs"].keys() | now.keys())
    changed = [name for name in names if values["inputs"].get(name) != now.get(name)]
    # Another holder, or a replay that was made since, is no forgery.
    if stored["alias"] != alias or (changed and all(name.startswith(("champion_", "replay")) for name in changed)):
        return judge(version, alias, policy)
    try:
        verify(values, inputs)
    except UserError as error:
        raise UserError(
            f"{version.model} version {version.version}: {error} (lingbot models promote {version.version} "
            f"--judge-again does it by the gate that ships)"
        ) from error
    return judge_inputs(inputs, policy)


def stored_verdict(version: ModelVersion) -> dict[str, Any] | None:
    """What the gate last said about a version; None when it has not seen it."""
    text = version.tags.get(VERDICT_TAG)
    return None if text is None else json.loads(text)


def evaluation_of(version: ModelVersion) -> dict[str, Any] | None:
    """The evaluation that a version was registered with; None when there is none.

    Raises:
        UserError: it is gone, or its bytes are not those that were registered.
    """
    digest = version.tags.get("evaluation_digest")
    return None if not digest else dict(json.loads(read_evaluation(digest)))


def read_verdict(digest: str) -> dict[str, Any]:
    """The verdict of that digest, checked.

    Raises:
        UserError: it is gone, or was changed.
    """
    path, content = state.home() / _key(digest), kept.find(_key(digest))
    if content is None:
        raise UserError(f"the verdict {digest[:12]} is gone: {path} does not exist")
    values = json.loads(content)
    if digest_of(values) != digest:
        raise UserError(f"the verdict {path} was changed after it was given: restore it from a copy")
    return dict(values)


def _keep(values: dict[str, Any]) -> None:
    kept.keep(_key(values["digest"]), json.dumps(values, indent=1, sort_keys=True).encode() + b"\n")


def _key(digest: str) -> str:
    return f"verdicts/{digest}.json"
