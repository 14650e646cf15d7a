"""Whether ledger, aliases, bundles, evidence and what endpoints serve agree: a sentence for all that does not."""

import datetime
from collections.abc import Mapping, Sequence

from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.bundles import has_bundle, read_evaluation
from components.ledger import CANARY, MOVES, SHADOW, Entry, Ledger
from components.promote.gate.verdict import digest_of
from components.promote.moves import HEAD_TAG
from components.promote.verdicts import read_verdict, stored_verdict
from components.routing_state import Standing, standing
from components.servings import Serving, servings
from model.errors import UserError

GRACE_SECONDS = 60.0
"""An endpoint that polls has this long to follow a movement."""


def check(model: str, *, deep: bool = False) -> list[str]:
    """What does not agree, a sentence each; empty when all is well.

    Args:
        model: registered model.
        deep: read every byte of bundles that lie in the shared storage too.
    """
    ledger = Ledger()
    versions = {version.version: version for version in tracking.list_versions(model)}
    faults = ledger.verify()
    if not faults:
        entries = ledger.entries()
        faults += check_head(entries, tracking.model_tags(model).get(HEAD_TAG))
        ours = [entry for entry in entries if entry.model == model]
        now = {entry.alias: standing([e for e in ours if e.alias == entry.alias]) for entry in ours}
        faults += _check_aliases(now, versions)
        faults += check_served(now, servings(model))
        faults += _check_verdicts(ours)
    for version in versions.values():
        faults += _check_version(version, deep)
    return faults


def check_head(entries: Sequence[Entry], head: str | None) -> list[str]:
    """Whether the ledger still has the entry that the registry remembers as its last: a cut-off end breaks no chain."""
    if head is None:
        return []
    number, digest = head.split()
    if int(number) > len(entries):
        return [f"the ledger has {len(entries)} entries, and the registry saw {number}: its end was cut off"]
    if entries[int(number) - 1].digest != digest:
        return [f"entry {number} of the ledger is not the one that the registry saw: the ledger was written anew"]
    return []


def check_served(now: Mapping[str, Standing], served: Sequence[Serving]) -> list[str]:
    """Endpoints that serve something else than the ledger has, longer than it takes to follow."""
    faults = []
    for serving in served:
        champion = now[serving.alias].champion if serving.alias in now else None
        if champion is None:
            faults.append(
                f"endpoint {serving.endpoint} serves version {serving.version} as '{serving.alias}', and the ledger "
                f"has no entry for it"
            )
            continue
        late = datetime.datetime.fromisoformat(serving.seen) - datetime.datetime.fromisoformat(champion.time)
        if late.total_seconds() < GRACE_SECONDS:
            continue
        if serving.version != champion.target:
            faults.append(
                f"endpoint {serving.endpoint} serves version {serving.version} since {serving.since}, and the ledger "
                f"has '{serving.alias}' at {champion.target} since {champion.time}: see why it does not follow"
            )
        elif serving.digest != champion.bundle_digest:
            faults.append(
                f"endpoint {serving.endpoint} serves bundle {serving.digest[:12]} as version {serving.version}, and "
                f"the ledger promoted {str(champion.bundle_digest)[:12]}"
            )
    return faults


def _check_aliases(now: Mapping[str, Standing], versions: Mapping[str, ModelVersion]) -> list[str]:
    faults = []
    held = {alias: version for version in versions.values() for alias in version.aliases}
    for alias in sorted(now.keys() | held.keys()):
        recorded, actual = now[alias].champion if alias in now else None, held.get(alias)
        if recorded is None:
            assert actual is not None, "an alias of the ledger has a champion: a canary goes beside one"
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
    for alias, present in sorted(now.items()):
        for what, entry in ((CANARY, present.canary), (SHADOW, present.shadow)):
            if entry is None:
                continue
            found = versions.get(str(entry.target))
            if found is None:
                faults.append(f"the {what} of '{alias}' is version {entry.target}, which the registry does not have")
            elif found.digest != entry.bundle_digest:
                faults.append(
                    f"the {what} of '{alias}', version {found.version}, has the digest {found.digest[:12]}, and the "
                    f"ledger has {str(entry.bundle_digest)[:12]}"
                )
    return faults


def _check_verdicts(entries: Sequence[Entry]) -> list[str]:
    faults = []
    for digest in sorted({entry.verdict for entry in entries if entry.action in (*MOVES, CANARY) and entry.verdict}):
        try:
            read_verdict(digest)
        except UserError as error:
            faults.append(str(error))
    return faults


def _check_version(version: ModelVersion, deep: bool) -> list[str]:
    faults = []
    if not has_bundle(version.digest, version.uri, deep=deep):
        faults.append(f"the bundle of version {version.version} is missing or damaged: {version.uri}")
    if version.tags.get("evaluation_digest"):
        try:
            read_evaluation(version.tags["evaluation_digest"])
        except UserError as error:
            faults.append(f"version {version.version}: {error}")
    verdict = stored_verdict(version)
    if verdict is not None and "digest" in verdict:
        values = {name: value for name, value in verdict.items() if name not in ("alias", "champion")}
        if digest_of(values) != values["digest"]:
            faults.append(f"version {version.version}: its stored verdict was edited after it was given")
    return faults
