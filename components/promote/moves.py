"""Moving an alias: the one way there is. The ledger first, the registry second.

In this order a kill between the two leaves a ledger that is ahead of the alias, which `check` reports and which the
next promotion puts right. The other order would leave a movement that nobody can account for.
"""

import json
from collections.abc import Mapping
from typing import Any

from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.bundles import has_bundle, read_evaluation
from components.ledger import MOVES, OVERRIDE, PROMOTE, ROLLBACK, Entry, Ledger
from components.promote.evidence import gather
from components.promote.gate import Policy, Verdict, judge_inputs, make_policy, verify
from model.errors import UserError, unknown_name

VERDICT_TAG = "verdict"


def judge(version: ModelVersion, alias: str, policy: Policy) -> Verdict:
    """The gate's verdict on a registered version against the present holder of the alias, kept with the version.

    Raises:
        UserError: the evaluation or the trials of either were lost or changed.
    """
    verdict = judge_inputs(gather(version, alias), policy)
    champion = tracking.version_of_alias(version.model, alias)
    stored = {"alias": alias, **verdict.to_json(), "champion": champion.version if champion is not None else None}
    tracking.tag_version(version, {VERDICT_TAG: json.dumps(stored, sort_keys=True)})
    return verdict


def stored_policy(version: ModelVersion) -> Policy | None:
    """What the gate that last saw a version asked for; None when none has seen it."""
    stored = stored_verdict(version)
    if stored is None:
        return None
    # Verdicts of schema 1 have the thresholds of that time, which are keys of a policy still.
    return make_policy(stored["policy"] if "policy" in stored else stored["thresholds"], "that judged the version")


def stored_verdict(version: ModelVersion) -> dict[str, Any] | None:
    """What the gate last said about a version."""
    text = version.tags.get(VERDICT_TAG)
    return None if text is None else json.loads(text)


def evaluation_of(version: ModelVersion) -> Mapping[str, Any] | None:
    """The evaluation that a version was registered with; None when there is none.

    Raises:
        UserError: it is gone, or its bytes are not those that were registered.
    """
    digest = version.tags.get("evaluation_digest")
    return None if not digest else json.loads(read_evaluation(digest))


def promote(version: ModelVersion, alias: str, verdict: Verdict, *, override_reason: str | None = None) -> Entry | None:
    """Points the alias at the version. None when it points there already, by the ledger too.

    Raises:
        UserError: the verdict does not pass and nobody took it upon themselves; what it follows from was edited, or
            the alias moved since; or the bundle is lost or damaged.
    """
    if not verdict.promote and override_reason is None:
        raise UserError(
            f"{version.model} version {version.version} is {verdict.sentence()}. "
            f"To promote it all the same, give --override --reason TEXT: both are recorded"
        )
    if verdict.promote:
        verify(verdict.to_json(), gather(version, alias))
    action = PROMOTE if verdict.promote else OVERRIDE
    reasons = verdict.reasons if verdict.promote else (str(override_reason), *verdict.reasons)
    return _move(version, alias, action, reasons)


def rollback(model: str, alias: str, *, to: str | None, reason: str) -> Entry:
    """Takes the alias back to the version before, or to an earlier holder `to`.

    Raises:
        UserError: there is none, `to` never held the alias, or its bundle is lost.
    """
    standing = Ledger().standing(model, alias)
    if len(standing) < 2:
        held = f"only version {standing[0]} ever held it" if standing else "nobody ever held it"
        raise UserError(f"alias '{alias}' of {model} cannot be rolled back: {held}")
    earlier = standing[:-1]
    target = earlier[-1] if to is None else to.removeprefix("v")
    if target not in earlier:
        raise unknown_name(f"earlier holder of '{alias}'", target, earlier)
    entry = _move(tracking.get_version(model, target), alias, ROLLBACK, (reason,))
    assert entry is not None, "an earlier holder is not the present one"
    return entry


def taken_back(version: ModelVersion, alias: str) -> Entry | None:
    """The rollback that took the alias away from this version, if that was the last that happened to it."""
    for entry in reversed(Ledger().moves(version.model, alias)):
        if entry.action == ROLLBACK and entry.source == version.version:
            return entry
        if entry.target == version.version:
            return None
    return None


def check(model: str) -> list[str]:
    """What does not agree between the ledger, the aliases and the bundles, a sentence each; empty when all is well."""
    ledger = Ledger()
    faults = ledger.verify()
    versions = {version.version: version for version in tracking.list_versions(model)}
    if not faults:
        last = {entry.alias: entry for entry in ledger.history(model) if entry.action in MOVES}
        held = {alias: version for version in versions.values() for alias in version.aliases}
        for alias in sorted(last.keys() | held.keys()):
            recorded, actual = last.get(alias), held.get(alias)
            if recorded is None:
                assert actual is not None
                faults.append(f"alias '{alias}' points at version {actual.version}, and the ledger has no entry for it")
            elif actual is None:
                faults.append(f"alias '{alias}' is not set, and the ledger has it at version {recorded.target}")
            elif recorded.target != actual.version:
                faults.append(
                    f"alias '{alias}' points at version {actual.version}, and the ledger has it at {recorded.target}"
                )
            elif recorded.bundle_digest != actual.digest:
                faults.append(
                    f"version {actual.version} has the digest {actual.digest[:12]}, and the ledger promoted "
                    f"{str(recorded.bundle_digest)[:12]}"
                )
    for version in versions.values():
        if not has_bundle(version.digest, version.uri):
            faults.append(f"the bundle of version {version.version} is missing or damaged: {version.uri}")
        try:
            evaluation_of(version)
        except UserError as error:
            faults.append(f"version {version.version}: {error}")
    return faults


def _move(version: ModelVersion, alias: str, action: str, reasons: tuple[str, ...]) -> Entry | None:
    if not has_bundle(version.digest, version.uri):
        raise UserError(
            f"the bundle of {version.model} version {version.version} is missing or damaged ({version.uri}): "
            f"the alias stays where it is; register it again"
        )
    ledger = Ledger()
    with tracking.registry_lock():
        present = tracking.version_of_alias(version.model, alias)
        history = ledger.moves(version.model, alias)
        agreed = bool(history) and history[-1].target == version.version
        if agreed and present is not None and present.version == version.version:
            return None
        entry = ledger.append(
            action=action,
            model=version.model,
            alias=alias,
            source=present.version if present is not None else None,
            target=version.version,
            bundle_digest=version.digest,
            evidence=version.tags.get("evaluation_digest"),
            reasons=reasons,
        )
        tracking.set_alias(version.model, alias, version.version)
    return entry
