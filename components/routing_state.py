"""Which versions share the traffic of an alias: what an endpoint polls.

The alias in the registry says what the champion is, and the ledger says that it came there by the gate (or by a person
who wrote down why). An alias that was moved past the ledger is not followed. Canary and shadow are entries of the
ledger: a canary ends with the next movement of the alias, a shadow when it is ended or becomes the champion.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.ledger import CANARY, MOVES, SHADOW, Entry, Ledger
from model.errors import UserError

# An alias is set some milliseconds after its entry is written: who reads in between reads again.
_LOOKS, _PAUSE_SECONDS = 3, 0.1


class RoutingError(UserError):
    """There is nothing new that could be served. Who serves already goes on with what it has, and raises an alarm."""


class RoutingUnavailable(RoutingError):
    """The registry or the ledger cannot be reached or read."""


class NotPromoted(RoutingError):
    """Nobody holds the alias."""


class RoutingDrift(RoutingError):
    """The alias is not where the ledger has it: it was moved, or its version replaced, past the gate."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A version and the bundle that it is: `components.bundles.fetch_bundle(digest, uri)` brings it here."""

    version: str
    uri: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Who answers a model's robots.

    Attributes:
        model, alias: what was asked for.
        champion: answers.
        canary: answers the share of new episodes; None when there is none.
        share: of new episodes, 0 to 1; 0 without a canary.
        shadow: its answers are compared and not sent; None when there is none.
        sequence: the ledger's last entry of this alias: equal routings of later entries differ in this alone.
        drift: what does not agree although it can be served, a sentence each: for an alarm. Empty when all is well.
    """

    model: str
    alias: str
    champion: Target
    canary: Target | None = None
    share: float = 0.0
    shadow: Target | None = None
    sequence: int = 0
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the ledger says of an alias now: the entry that brought each there."""

    champion: Entry | None = None
    canary: Entry | None = None
    shadow: Entry | None = None


def read_routing(model_name: str, alias: str) -> Routing:
    """Who answers the robots of a model now.

    Raises:
        RoutingUnavailable: the registry or the ledger is away, or the ledger's chain is broken.
        NotPromoted: nobody holds the alias.
        RoutingDrift: the alias was moved past the ledger, or its version is not the bundle that was promoted.
    """
    for look in range(_LOOKS):
        try:
            versions = tracking.list_versions(model_name)
            entries = Ledger().history(model_name, alias)
        except (UserError, OSError) as error:
            raise RoutingUnavailable(f"what '{alias}' of {model_name} serves cannot be read: {error}") from error
        held = next((version for version in versions if alias in version.aliases), None)
        recorded = standing(entries).champion
        agreed = (recorded and recorded.target) == (held and held.version)
        if agreed or look == _LOOKS - 1:
            return _route(model_name, alias, versions, held, entries)
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError("the last look returns or raises")


def standing(entries: Sequence[Entry]) -> Standing:
    """What the entries of one alias of one model amount to."""
    champion = canary = shadow = None
    for entry in entries:
        if entry.action in MOVES:
            champion, canary = entry, None
            if shadow is not None and shadow.target == entry.target:
                shadow = None
        elif entry.action == CANARY:
            canary = entry if entry.target is not None else None
        elif entry.action == SHADOW:
            shadow = entry if entry.target is not None else None
    return Standing(champion=champion, canary=canary, shadow=shadow)


def _route(
    model: str, alias: str, versions: Sequence[ModelVersion], held: ModelVersion | None, entries: Sequence[Entry]
) -> Routing:
    by_number = {version.version: version for version in versions}
    now = standing(entries)
    if not versions and now.champion is None:
        raise NotPromoted(f"model {model} has no version: `lingbot models list` shows what is registered; name one")
    if held is None and now.champion is None:
        raise NotPromoted(
            f"model {model} has no alias '{alias}': promote a version first (lingbot models promote VERSION)"
        )
    drift: list[str] = []
    recorded = now.champion
    if held is None:
        assert recorded is not None
        raise RoutingDrift(
            f"alias '{alias}' of {model} is not set, and the ledger has it at version {recorded.target}: promote that "
            f"version again (lingbot models promote {recorded.target})"
        )
    if recorded is None:
        raise RoutingDrift(
            f"alias '{alias}' of {model} points at version {held.version}, and the ledger has no entry for it: an "
            f"alias is moved by `lingbot models promote`, which asks the gate"
        )
    if recorded.target != held.version:
        before = next((entry for entry in reversed(entries) if entry.action in MOVES and entry != recorded), None)
        # Killed between the ledger and the alias: the version before still holds it, and it did pass.
        if before is None or before.target != held.version or recorded.source != held.version:
            raise RoutingDrift(
                f"alias '{alias}' of {model} points at version {held.version}, and the ledger has it at "
                f"{recorded.target}: it was moved past the gate; move it with `lingbot models promote` or `rollback`"
            )
        drift.append(
            f"alias '{alias}' still points at version {held.version}, and the ledger has it at {recorded.target}: "
            f"a promotion was interrupted; `lingbot models promote {recorded.target}` finishes it"
        )
        recorded = before
    if recorded.bundle_digest != held.digest:
        raise RoutingDrift(
            f"{model} version {held.version} is bundle {held.digest[:12]} in the registry, and the ledger promoted "
            f"{str(recorded.bundle_digest)[:12]}: the registry was changed; register and promote again"
        )
    canary, shadow = (_other(entry, by_number, held, drift) for entry in (now.canary, now.shadow))
    return Routing(
        model=model,
        alias=alias,
        champion=_target(held),
        canary=canary,
        share=float(now.canary.share or 0.0) if canary is not None and now.canary is not None else 0.0,
        shadow=shadow,
        sequence=entries[-1].sequence,
        drift=tuple(drift),
    )


def _other(
    entry: Entry | None, versions: dict[str, ModelVersion], champion: ModelVersion, drift: list[str]
) -> Target | None:
    """The canary's or the shadow's target. One that cannot be trusted gets no traffic; the champion answers on."""
    if entry is None or entry.target is None or entry.target == champion.version:
        return None
    found = versions.get(entry.target)
    if found is None:
        drift.append(f"the {entry.action} is version {entry.target}, which the registry does not have")
        return None
    if found.digest != entry.bundle_digest:
        drift.append(
            f"the {entry.action}, version {found.version}, is bundle {found.digest[:12]} in the registry, and "
            f"{str(entry.bundle_digest)[:12]} in the ledger"
        )
        return None
    return _target(found)


def _target(version: ModelVersion) -> Target:
    return Target(version=version.version, uri=version.uri, digest=version.digest)
