"""What a data release holds, in its users' words: episodes, hours, quarantine, and digests that name the rest."""

import json
from collections.abc import Mapping
from typing import Any

from components import records
from components.artifacts import Artifact

_COUNTS = {
    "validate": ("episodes", "usable", "quarantined", "hours"),
    "annotate": ("segments",),
    "pack": ("frames", "train_episodes", "holdout_episodes"),
}
_QUARANTINE, _STATISTICS, _STORE = "quarantine.yaml", "statistics.json", "store.json"
_TEACHER = ("weights_digest", "preprocessing_digest", "codec")


def describe_data(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """The counts, quarantine and digests of the data steps among these, JSON-able.

    `statistics_digest` is the sha256 of the normalisation statistics, `teacher` names the depth teacher by its weights.
    """
    counts = {
        name: artifacts[step].summary[name]
        for step, names in _COUNTS.items()
        for name in names
        if step in artifacts and name in artifacts[step].summary
    }
    return {
        **counts,
        "quarantine": _quarantine(artifacts),
        "statistics_digest": _sha256(artifacts, "pack", _STATISTICS),
        "teacher": _teacher(artifacts),
    }


def _quarantine(artifacts: Mapping[str, Artifact]) -> list[dict[str, Any]] | None:
    """Episodes that are out, with the rule of each; None of a verdict that lists none by file."""
    if _sha256(artifacts, "validate", _QUARANTINE) is None:
        return None
    from model.data.quarantine import read_entries

    path = records.fetch(artifacts["validate"]) / _QUARANTINE
    entries = read_entries(path, ("episode", "rule", "evidence"))
    return [{"episode": entry["episode"], "rule": entry["rule"]} for entry in entries]


def _teacher(artifacts: Mapping[str, Artifact]) -> dict[str, Any] | None:
    if _sha256(artifacts, "extract_depth_tokens", _STORE) is None:
        return None
    store = json.loads((records.fetch(artifacts["extract_depth_tokens"]) / _STORE).read_text(encoding="utf-8"))
    return {name: store[name] for name in _TEACHER if name in store}


def _sha256(artifacts: Mapping[str, Artifact], step: str, path: str) -> str | None:
    artifact = artifacts.get(step)
    return artifact.files[path].sha256 if artifact is not None and path in artifact.files else None
