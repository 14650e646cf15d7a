"""Moving an alias, and what shares its traffic: the one way there is. The ledger first, the registry second.

In this order a kill between the two leaves a ledger that is ahead of the alias, which `components.promote.drift` tells
and the next promotion puts right. The other order would leave a movement that nobody can account for.
"""

from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.bundles import has_bundle
from components.ledger import CANARY, OVERRIDE, PROMOTE, ROLLBACK, SHADOW, Entry, Ledger
from components.promote.evidence import gather
from components.promote.gate import Verdict, load_policy, verify
from components.routing_state import standing
from model.errors import UserError, unknown_name

HEAD_TAG = "ledger.head"
"""Of a registered model: number and sha256 of the ledger's last entry, so that a cut-off end is seen."""


def promote(version: ModelVersion, alias: str, verdict: Verdict, *, override_reason: str | None = None) -> Entry | None:
    """Points the alias at the version. None when it points there already, by the ledger too.

    Raises:
        UserError: the verdict does not pass and nobody took it upon themselves; what it follows from was edited, or
            the alias moved since; or the bundle is lost or damaged.
    """
    seen = _last_entry(version.model, alias)
    reasons = _admitted(version, alias, verdict, override_reason, "promote it")
    action = PROMOTE if verdict.promote else OVERRIDE
    return _move(version, alias, action, reasons, seen=seen, verdict=verdict.to_json()["digest"])


def rollback(model: str, alias: str, *, to: str | None, reason: str) -> Entry:
    """Takes the alias back to the version before, or to an earlier holder `to`.

    Raises:
        UserError: there is none, `to` never held the alias, or its bundle is lost.
    """
    seen = _last_entry(model, alias)
    held = Ledger().standing(model, alias)
    if len(held) < 2:
        why = f"no version held it before version {held[0]}" if held else "nobody ever held it"
        raise UserError(f"alias '{alias}' of {model} cannot be rolled back: {why}; `lingbot models promote` moves it")
    earlier = held[:-1]
    target = earlier[-1] if to is None else to.removeprefix("v")
    if target == held[-1]:
        raise UserError(f"alias '{alias}' of {model} is at version {target} already: there is nothing to roll back")
    if target not in earlier:
        raise unknown_name(f"earlier holder of '{alias}'", target, earlier)
    entry = _move(tracking.get_version(model, target), alias, ROLLBACK, (reason,), seen=seen)
    assert entry is not None, "an earlier holder is not the present one"
    return entry


def start_canary(
    version: ModelVersion, alias: str, share: float, verdict: Verdict, *, override_reason: str | None = None
) -> Entry:
    """Gives the version a share of the new episodes. It moves real robots, so the gate is asked as for a promotion.

    Raises:
        UserError: a share that is none, nobody holds the alias, the version is what holds it, or as in `promote`.
    """
    if not 0 < share < 1:
        raise UserError(
            f"a canary's share {share:g} must be between 0 and 1, 0.1 for a tenth of the new episodes; "
            f"--end ends it, and `lingbot models promote` gives it everything"
        )
    seen = _last_entry(version.model, alias)
    reasons = _admitted(version, alias, verdict, override_reason, "make it a canary")
    return _share(version, alias, CANARY, reasons, seen=seen, share=share, verdict=verdict.to_json()["digest"])


def start_shadow(version: ModelVersion, alias: str, reason: str) -> Entry:
    """Lets the version answer beside the champion, compared and never sent. No gate: it moves no robot.

    Raises:
        UserError: nobody holds the alias, the version is what holds it, or its bundle is lost or damaged.
    """
    return _share(version, alias, SHADOW, (reason,), seen=_last_entry(version.model, alias))


def end(model: str, alias: str, action: str, reason: str) -> Entry:
    """Ends the canary or the shadow of an alias.

    Raises:
        UserError: there is none.
    """
    assert action in (CANARY, SHADOW), action
    ledger = Ledger()
    now = standing(ledger.history(model, alias))
    present = now.canary if action == CANARY else now.shadow
    if present is None:
        raise UserError(f"alias '{alias}' of {model} has no {action} that could be ended")
    entry = ledger.append(
        action=action,
        model=model,
        alias=alias,
        source=present.target,
        target=None,
        bundle_digest=None,
        evidence=None,
        reasons=(reason,),
        seen=_last_entry(model, alias),
    )
    _anchor(ledger, model)
    return entry


def taken_back(version: ModelVersion, alias: str) -> Entry | None:
    """The rollback that took the alias away from this version, if that was the last that happened to it."""
    for entry in reversed(Ledger().moves(version.model, alias)):
        if entry.action == ROLLBACK and entry.source == version.version:
            return entry
        if entry.target == version.version:
            return None
    return None


def _admitted(
    version: ModelVersion, alias: str, verdict: Verdict, override_reason: str | None, what: str
) -> tuple[str, ...]:
    """The reasons to write down; refuses without a passing verdict that still follows from its inputs."""
    if not verdict.promote and override_reason is None:
        raise UserError(
            f"{version.model} version {version.version} is {verdict.sentence()}. "
            f"To {what} all the same, give --override --reason TEXT: both are recorded"
        )
    if verdict.promote:
        verify(verdict.to_json(), gather(version, alias))
    asked = verdict.policy.digest
    own = () if asked == load_policy().digest else (f"by a policy of its own ({asked[:12]}), not the one that ships",)
    taken = () if verdict.promote else (str(override_reason),)
    return (*taken, *verdict.reasons, *own)


def _last_entry(model: str, alias: str) -> int:
    history = Ledger().history(model, alias)
    return history[-1].sequence if history else 0


def _check_bundle(version: ModelVersion) -> None:
    if not has_bundle(version.digest, version.uri):
        raise UserError(
            f"the bundle of {version.model} version {version.version} is missing or damaged ({version.uri}): "
            f"the alias stays where it is; register it again"
        )


def _move(
    version: ModelVersion, alias: str, action: str, reasons: tuple[str, ...], *, seen: int, verdict: str | None = None
) -> Entry | None:
    _check_bundle(version)
    tracking.check_alias(alias)
    ledger = Ledger()
    with tracking.registry_lock():
        present = tracking.version_of_alias(version.model, alias)
        moves = ledger.moves(version.model, alias)
        recorded = moves[-1].target if moves else None
        if recorded == version.version and present is not None and present.version == recorded:
            return None
        entry = ledger.append(
            action=action,
            model=version.model,
            alias=alias,
            source=recorded or (present.version if present is not None else None),
            target=version.version,
            bundle_digest=version.digest,
            evidence=version.tags.get("evaluation_digest"),
            verdict=verdict,
            reasons=reasons,
            seen=seen,
        )
        _settle(ledger, version.model, alias)
    return entry


def _share(
    version: ModelVersion,
    alias: str,
    action: str,
    reasons: tuple[str, ...],
    *,
    seen: int,
    share: float | None = None,
    verdict: str | None = None,
) -> Entry:
    _check_bundle(version)
    ledger = Ledger()
    now = standing(ledger.history(version.model, alias))
    if now.champion is None:
        raise UserError(
            f"nobody holds '{alias}' of {version.model}, and a {action} goes beside who does: promote a version first"
        )
    if now.champion.target == version.version:
        raise UserError(f"version {version.version} holds '{alias}' of {version.model}: a {action} is another version")
    present = now.canary if action == CANARY else now.shadow
    entry = ledger.append(
        action=action,
        model=version.model,
        alias=alias,
        source=present.target if present is not None else None,
        target=version.version,
        bundle_digest=version.digest,
        evidence=version.tags.get("evaluation_digest"),
        verdict=verdict,
        share=share,
        reasons=reasons,
        seen=seen,
    )
    _anchor(ledger, version.model)
    return entry


def _settle(ledger: Ledger, model: str, alias: str) -> None:
    """Sets the alias to the ledger's last movement, also when another machine wrote that one meanwhile."""
    while True:
        last = ledger.moves(model, alias)[-1]
        assert last.target is not None, "an alias moves to a version"
        tracking.set_alias(model, alias, last.target)
        _anchor(ledger, model)
        if ledger.moves(model, alias)[-1] == last:
            return


def _anchor(ledger: Ledger, model: str) -> None:
    last = ledger.entries()[-1]
    tracking.tag_model(model, {HEAD_TAG: f"{last.sequence} {last.digest}"})
