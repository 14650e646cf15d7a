"""Lineage in both directions: from a version back to the data, and from data, a run or a commit to what serves it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.adapters import tracking
from components.adapters.tracking import ModelVersion
from components.ledger import Entry, Ledger
from components.provenance_files import read_beside_bundle
from components.routing_state import standing
from components.servings import Serving, servings
from model.errors import UserError

_SHORTEST = 6  # characters of a digest that name it
# Tags by which a version is found; digests and commits by their beginning.
_EXACT = ("dataset_tag", "run_id", "step.collect", "step.ingest")
_BEGINNING = ("dataset_digest", "bundle_digest", "evaluation_digest", "git_commit", "provenance_digest")


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A version with what is before and after it.

    Attributes:
        version: as registered; its tags name dataset, steps, run and commit.
        releases: other tags that released the same dataset.
        provenance: record of the run; None when it is not kept, with the reason in `faults`.
        routes: alias -> champion, canary or shadow, of those that it has now.
        entries: of the ledger that name it.
        endpoints: that serve it now.
        faults: what could not be read.
    """

    version: ModelVersion
    releases: tuple[str, ...]
    provenance: Mapping[str, Any] | None
    routes: Mapping[str, str]
    entries: tuple[Entry, ...]
    endpoints: tuple[Serving, ...]
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        version = asdict(self.version)
        provenance = self.provenance or {}
        tags = version.pop("tags")
        return {
            "dataset": {
                "tag": tags.get("dataset_tag"),
                "commit": tags.get("dataset_commit"),
                "digest": tags.get("dataset_digest"),
                "uri": tags.get("dataset_uri"),
                "also_released_as": list(self.releases),
            },
            "run": {
                "id": tags.get("run_id"),
                "git_commit": tags.get("git_commit"),
                "dirty": bool(tags.get("dirty")),
                "command": provenance.get("command"),
                "provenance": tags.get("provenance_digest"),
                "steps": {
                    name.removeprefix("step."): value for name, value in tags.items() if name.startswith("step.")
                },
            },
            "version": {
                "model": self.version.model,
                "version": self.version.version,
                "bundle": self.version.digest,
                "uri": self.version.uri,
                "evaluation": tags.get("evaluation_digest"),
                "mlflow_run": self.version.run_id,
            },
            "routes": dict(self.routes),
            "ledger": [asdict(entry) for entry in self.entries],
            "endpoints": [asdict(serving) for serving in self.endpoints],
            "faults": list(self.faults),
        }


def find_versions(
    reference: str, model: str = "", *, digests: Sequence[str] = (), bundles: Sequence[str] = ()
) -> list[ModelVersion]:
    """The versions that a reference leads to, oldest first.

    Args:
        reference: number or alias of a version; a dataset's tag; a run; an endpoint's name; or the beginning of the
            digest of a dataset, bundle, evaluation or provenance, or of a commit.
        model: registered model; empty: all.
        digests: of datasets that the reference is known to name elsewhere (a release's record).
        bundles: digests of bundles that it is known to name elsewhere (the record of a run or of an experiment).

    Raises:
        UserError: it leads to none.
    """
    models = (model,) if model else tracking.list_models()
    versions = [version for name in models for version in tracking.list_versions(name)]
    number = reference.removeprefix("v")
    found = [v for v in versions if v.version == number or reference in v.aliases]
    found = found or [
        v
        for v in versions
        if _matches(v.tags, reference) or v.tags.get("dataset_digest") in digests or v.digest in bundles
    ]
    if not found:
        served = {(one.model, one.version) for name in models for one in servings(name) if one.endpoint == reference}
        found = [version for version in versions if (version.model, version.version) in served]
    if not found:
        raise UserError(
            f"no version of {', '.join(models) or 'any model'} comes from or leads to '{reference}': give a version, "
            f"an alias, a dataset's tag or digest, a run, a commit or an endpoint (`lingbot models list` has versions)"
        )
    return found


def trace(version: ModelVersion, *, releases: Sequence[str] = ()) -> Lineage:
    """What is before and after a version."""
    faults: list[str] = []
    provenance = None
    kept = version.tags.get("provenance_digest")
    if kept:
        try:
            provenance = read_beside_bundle(version.digest, kept)
        except UserError as error:
            faults.append(str(error))
    history = Ledger().history(version.model)
    routes = {}
    for alias in sorted({entry.alias for entry in history}):
        now = standing([entry for entry in history if entry.alias == alias])
        for name, entry in (("champion", now.champion), ("canary", now.canary), ("shadow", now.shadow)):
            if entry is not None and entry.target == version.version:
                routes[alias] = name
    return Lineage(
        version=version,
        releases=tuple(tag for tag in releases if tag != version.tags.get("dataset_tag")),
        provenance=provenance,
        routes=routes,
        entries=tuple(entry for entry in history if version.version in (entry.source, entry.target)),
        endpoints=tuple(
            one for one in servings(version.model) if version.version in (one.version, one.canary, one.shadow)
        ),
        faults=tuple(faults),
    )


def _matches(tags: Mapping[str, str], reference: str) -> bool:
    if any(tags.get(name) == reference for name in _EXACT):
        return True
    return len(reference) >= _SHORTEST and any(tags.get(name, "").startswith(reference) for name in _BEGINNING)
