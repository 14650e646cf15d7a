"""Artefacts behind a registered version that its tags alone still have: gone from here and from the shared storage.

A version names the tag that its data came from, with the commit that the tag led to then; and whoever recorded its run
released what that run made as `exp/NAME-vN`. An artefact of such a release is the version's when its fingerprint is; a
dataset, which is ingested under another fingerprint than it was collected under, when its digest is.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from pipelines.versions.release import INGEST
from pipelines.versions.tags import Release, apart, checkout, fetch_artifacts, find_release, releases

if TYPE_CHECKING:
    from components.adapters.tracking import ModelVersion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagged:
    """What a release has of a version: `steps` is the version's step -> the release's step with the same bytes."""

    release: Release
    steps: Mapping[str, str]

    def entry(self, step: str) -> Mapping[str, Any]:
        """What the release's record says of a step of the version: digest, summary, files."""
        return dict(self.release.record["steps"][self.steps[step]])

    def fetch(self, tree: Path, steps: Sequence[str], remote: str | None) -> None:
        """Puts those of the version's steps that it has, every byte checked, into `tree/artifacts/<step>`.

        Raises:
            UserError: as `fetch_artifacts`; `tree` is as it was then.
        """
        wanted = {step: self.steps[step] for step in steps if step in self.steps}
        if not wanted:
            return
        with apart(self.release.commit, "fetch") as other:
            fetch_artifacts(self.release, other.root, list(wanted.values()), remote=remote)
            for step, name in wanted.items():
                shutil.move(other.root / "artifacts" / name, tree / "artifacts" / step)


def find_tagged(version: "ModelVersion", record: Mapping[str, Any], lost: Sequence[str]) -> list[Tagged]:
    """The releases that have artefacts of a version, for each of the `lost` steps the first that has it.

    Args:
        version: which.
        record: its provenance.
        lost: steps.

    Raises:
        UserError: one of their tags was moved since (from where to where).
    """
    found, wanted = [], list(lost)
    for release in _candidates(version, record) if wanted else ():
        steps = {step: name for step in wanted if (name := _same(release, step, version)) is not None}
        if steps:
            found.append(Tagged(release=release, steps=steps))
            wanted = [step for step in wanted if step not in steps]
    return found


def _candidates(version: "ModelVersion", record: Mapping[str, Any]) -> list[Release]:
    """The release of its data, and those of its run, as far as their tags are in this checkout."""
    git, data = checkout(), record["data"]
    found = []
    if data and git.resolve(f"refs/tags/{data['tag']}"):
        release = find_release(data["tag"])
        if release.commit != data["commit"]:
            raise UserError(
                f"the tag '{data['tag']}' that {version.model}/{version.version} was made from was moved from commit "
                f"{data['commit'][:12]} to {release.commit[:12]}: move it back first"
            )
        found.append(release)
    known = releases(git, "exp", None) if record["run"] else []
    return [*found, *(find_release(release.tag) for release in known if release.record["run"] == record["run"])]


def _same(release: Release, step: str, version: "ModelVersion") -> str | None:
    """The release's name of a step of the version; None when it has other bytes, or none."""
    steps, source = release.record["steps"], release.record["source"]
    if step in steps and steps[step]["fingerprint"] == version.tags[f"step.{step}"]:
        return step
    if step == INGEST and steps[source]["digest"] == version.tags["dataset_digest"]:
        return str(source)
    return None
