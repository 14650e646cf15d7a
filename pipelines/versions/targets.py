"""What can be done again: a release by its tag, a run by its id, a registered version by its number or alias.

Each becomes a `Target`: what came out the first time, the code and the parameters that made it, and a way to fetch its
artefacts with every byte checked.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import records
from components.artifacts import Artifact
from components.code_version import Sources
from components.exchange import export_artifact
from components.provenance_files import read_beside_bundle, read_for_run
from components.steps import STEPS
from model.errors import UserError
from pipelines.history import known_runs, read_run
from pipelines.versions.comparison import Result, of_release, of_run, of_version
from pipelines.versions.release import made_by_run
from pipelines.versions.tagged import Tagged, find_tagged
from pipelines.versions.tags import check_chain, checkout, fetch_artifacts, find_release

if TYPE_CHECKING:
    from components.adapters.tracking import ModelVersion

_TAG = re.compile(r"(data|exp)/")
_RUN = re.compile(r"last|\d{8}-\d{6}-[0-9a-f]{4,6}")  # four in records of before their seconds were divided


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be done again.

    Attributes:
        reference: as it was given.
        result: what came out the first time.
        commit: of the code.
        changes: to that code that are in no commit, as `git apply` takes them; None: there were none.
        source: "collect" or "ingest".
        whole: the whole DAG; otherwise the data alone.
        parameters: seed, preset and every step's section, complete.
        threads: of arithmetic; None: not recorded.
        fetch: puts the artefacts of some steps, checked, into `tree/artifacts`.
        fetchable: the steps whose artefacts `fetch` can bring; the others are made again.
    """

    reference: str
    result: Result
    commit: str
    changes: str | None = None
    source: str
    whole: bool
    parameters: Mapping[str, Any]
    threads: int | None
    fetch: Callable[[Path, Sequence[str]], None]
    fetchable: frozenset[str]


def find_target(reference: str, *, remote: str | None = None) -> Target:
    """What a tag `exp/...` or `data/...`, the id of a run, or a version stands for.

    Args:
        reference: as above.
        remote: of DVC, instead of the one that the release names or this checkout has.

    Raises:
        UserError: no such, a tag that was moved, or a run whose code is in no commit.
    """
    if is_tag(reference):
        return _release_target(reference, remote)
    if is_run(reference):
        return _run_target(read_run(reference))
    return _version_target(reference, remote)


def is_tag(reference: str) -> bool:
    return _TAG.match(reference) is not None


def is_run(reference: str) -> bool:
    return _RUN.fullmatch(reference) is not None


def load_result(reference: str) -> Result:
    """The result of a tag, a run or a version, without asking whether it can be made again.

    Raises:
        UserError: there is no such, or the run has made nothing.
    """
    if is_tag(reference):
        return of_release(reference, find_release(reference).record)
    if is_run(reference):
        return of_run(read_run(reference))
    version = find_version(reference)
    return _version_result(version, version_artifacts(version), [], version_provenance(version))


def _release_target(tag: str, remote: str | None) -> Target:
    release = find_release(tag)
    record = release.record

    def pull(tree: Path, steps: Sequence[str]) -> None:
        fetch_artifacts(release, tree, steps, remote=remote)

    return Target(
        reference=tag,
        result=of_release(tag, record),
        commit=release.commit,
        source=record["source"],
        whole=tag.startswith("exp/"),
        parameters=record["provenance"]["parameters"],
        threads=record["threads"],
        fetch=pull,
        fetchable=frozenset(record["steps"]),
    )


def _run_target(run: Mapping[str, Any]) -> Target:
    made = made_by_run(run["id"])
    code, kept = run["provenance"]["code"], read_for_run(run["id"])
    return Target(
        reference=run["id"],
        result=of_run(run),
        commit=_known_commit(f"run {run['id']}", code),
        changes=kept["diff"] if kept else None,
        source=run["source"],
        whole=True,
        parameters=run["provenance"]["parameters"],
        threads=run["threads"],
        fetch=_copier(f"run {run['id']}", made.artifacts, code),
        fetchable=frozenset(made.artifacts),
    )


def _version_target(reference: str, remote: str | None) -> Target:
    """A version that was registered here or elsewhere. What it was made from lies beside its bundle; its artefacts are
    here, in the shared storage, or in the DVC remote of a tag."""
    version = find_version(reference)
    name = f"{version.model}/{version.version}"
    record = version_provenance(version)
    artifacts = version_artifacts(version)
    lost = [step for step in STEPS if f"step.{step}" in version.tags and step not in artifacts]
    if not lost and record["run"] in known_runs():
        target = _run_target(read_run(record["run"]))
        if target.result.bundle == version.digest:
            return dataclasses.replace(target, result=dataclasses.replace(target.result, name=name))
    tagged = find_tagged(version, record, lost)
    copy = _copier(name, artifacts, record["code"])

    def fetch(tree: Path, steps: Sequence[str]) -> None:
        copy(tree, [step for step in steps if step in artifacts])
        for release in tagged:
            release.fetch(tree, steps, remote)

    return Target(
        reference=name,
        result=_version_result(version, artifacts, tagged, record),
        commit=_known_commit(name, record["code"]),
        changes=record["diff"],
        source="ingest" if "step.ingest" in version.tags else "collect",
        whole=True,
        parameters=record["parameters"],
        threads=record["threads"],
        fetch=fetch,
        fetchable=frozenset(artifacts).union(*(release.steps for release in tagged)),
    )


def _version_result(
    version: "ModelVersion", artifacts: Mapping[str, Artifact], tagged: Sequence[Tagged], record: Mapping[str, Any]
) -> Result:
    entries: dict[str, Mapping[str, Any]] = {step: dataclasses.asdict(each) for step, each in artifacts.items()}
    entries |= {step: release.entry(step) for release in tagged for step in release.steps}
    made = {step: entries[step] for step in STEPS if step in entries}
    return of_version(f"{version.model}/{version.version}", version.digest, made, record)


def find_version(reference: str) -> "ModelVersion":
    """The registered version of `MODEL/VERSION`, of a number, or of an alias of the only model.

    Raises:
        UserError: there is no such; with the nearest name.
    """
    from components.adapters import tracking

    model, _, wanted = reference.removeprefix("models:/").replace("@", "/").rpartition("/")
    if not model:
        models = tracking.list_models()
        if len(models) != 1:
            held = f"there are several models: write MODEL/{wanted} with one of {', '.join(models)}"
            none = f"no model is registered in {tracking.shown_uri()} whose version it could be"
            raise UserError(
                f"'{reference}' is no tag (data/NAME-vN, exp/NAME-vN) and no run of `lingbot runs list`, and "
                f"{held if models else none}"
            )
        (model,) = models
    return tracking.version_of_alias(model, wanted) or tracking.get_version(model, wanted)


def version_provenance(version: "ModelVersion") -> dict[str, Any]:
    """What a version was made from.

    Raises:
        UserError: it was registered before that was kept, or the record is gone or changed.
    """
    if "provenance_digest" not in version.tags:
        raise UserError(
            f"{version.model}/{version.version} was registered before provenance was kept beside bundles: "
            "name its run or its tag instead"
        )
    return read_beside_bundle(version.digest, version.tags["provenance_digest"])


def version_artifacts(version: "ModelVersion") -> dict[str, Artifact]:
    """Step -> artefact, of those behind a version that are here or in the shared storage."""
    named = {step: version.tags.get(f"step.{step}") for step in STEPS}
    found = {step: records.load_artifact(step, fingerprint) for step, fingerprint in named.items() if fingerprint}
    artifacts = {step: artifact for step, artifact in found.items() if artifact is not None}
    check_chain(artifacts)
    return artifacts


def _known_commit(name: str, code: Mapping[str, Any]) -> str:
    commit = code["commit"]
    if commit is None or checkout().resolve(commit) is None:
        raise UserError(f"{name} was made from code that is in no commit here ({commit}): it cannot be fetched")
    return str(commit)


def _copier(
    name: str, artifacts: Mapping[str, Artifact], code: Mapping[str, Any]
) -> Callable[[Path, Sequence[str]], None]:
    """Copies artefacts out of the state folder or the shared storage, after a look at the code in the tree."""

    def copy(tree: Path, steps: Sequence[str]) -> None:
        sources = Sources(tree)
        for step, artifact in artifacts.items():
            if sources.version(STEPS[step].module) != artifact.code_version:
                raise UserError(
                    f"{name} made '{step}' with changes that were not committed to {code['commit'][:12]}: "
                    "its code cannot be fetched; commit the code first, then run and record"
                )
        for step in steps:
            export_artifact(artifacts[step], tree / "artifacts" / step)

    return copy
