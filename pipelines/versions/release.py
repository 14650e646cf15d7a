"""Releases: data and experiments under a git tag, their bytes under DVC.

A release is a commit of its own on top of HEAD, made in a worktree apart, so the branch and the files of the checkout
stay as they are. It holds `release.json` (every file's sha256 and size, parameters, versions, figures), `dvc.lock`, and
`params.yaml` with the values that were used. The tag `data/NAME-vN` or `exp/NAME-vN` leads to it, says in its text to
which commit, and is never moved: a tag that says otherwise is refused.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components import records, state
from components.adapters.versioning import Dvc, Git
from components.artifacts import Artifact
from components.code_version import Sources
from components.exchange import export_artifact
from components.execution import execute
from components.provenance import provenance
from components.steps import STEPS, maker
from model.errors import UserError
from pipelines.history import read_run
from pipelines.parameters import PLAIN, RunParameters, read_mapping
from pipelines.shape import MAIN, SOURCES, dag_steps, source_of
from pipelines.versions.figures import write_figures
from pipelines.versions.manifest import describe_data
from pipelines.versions.tags import (
    RECORD,
    SCHEMA_VERSION,
    Release,
    apart,
    check_chain,
    checkout,
    default_remote,
    digests,
    next_version,
    releases,
    see_tag,
)

INGEST = "ingest"
DATA_STEPS = (*SOURCES, "validate", "annotate", "extract_depth_tokens", "pack")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """What a release is made of: finished steps of one DAG, in order, and what they were made with.

    `run` is the id of the run that made them, `threads` how many it computed with; None outside of a run.
    """

    source: str
    seed: int
    parameters: Mapping[str, Mapping[str, Any]]
    artifacts: Mapping[str, Artifact]
    provenance: Mapping[str, Any]
    run: str | None = None
    threads: int | None = None


def make_data(parameters: RunParameters) -> Made:
    """Executes the data steps with these parameters; what is finished is reused."""
    source = source_of(parameters)
    artifacts: dict[str, Artifact] = {}
    for step in dag_steps(source):
        if step.name in DATA_STEPS:
            inputs = {name: artifacts[maker(step, name)] for name in step.inputs}
            artifacts[step.name] = execute(step, inputs, parameters.steps[step.name])
    return Made(
        source=source,
        seed=parameters.seed,
        parameters={name: parameters.steps[name] for name in artifacts},
        artifacts=artifacts,
        provenance=provenance(parameters.to_json()),
    )


def made_by_run(run_id: str) -> Made:
    """The finished steps of a run.

    Raises:
        UserError: there is no such run, it did not finish, or its artefacts are gone.
    """
    run = read_run(run_id)
    if run["pipeline"] != MAIN:
        raise UserError(
            f"run {run['id']} is of the pipeline '{run['pipeline']}': only runs of {MAIN} are released or reproduced; "
            "the same command makes a study again, and `lingbot data release` releases its data"
        )
    artifacts: dict[str, Artifact] = {}
    for entry in run["steps"]:
        artifact = records.load_artifact(entry["name"], entry["fingerprint"]) if entry.get("digest") else None
        if artifact is None or artifact.digest != entry["digest"]:
            raise UserError(
                f"run {run['id']} has no finished '{entry['name']}' here (it is {entry['status']}): "
                "let it finish with `lingbot run`, or name another run of `lingbot runs list`"
            )
        artifacts[entry["name"]] = artifact
    check_chain(artifacts)
    return Made(
        source=run["source"],
        parameters={entry["name"]: entry["parameters"] for entry in run["steps"]},
        artifacts=artifacts,
        run=run["id"],
        threads=run["threads"],
        seed=run["seed"],
        provenance=run["provenance"],
    )


def release_data(name: str, made: Made, *, remote: str | None = None) -> Release:
    """Releases the data steps of `made` as `data/NAME-vN`; the newest of that name is returned if it holds the same.

    Raises:
        UserError: a name that no tag can have, no git checkout, code that is not committed, or a remote that fails.
    """
    data = {step: artifact for step, artifact in made.artifacts.items() if step in DATA_STEPS}
    git = checkout()
    for release in releases(git, "data", _checked_name(name))[-1:]:
        if digests(release.record) == _by_kind(data):
            return release
    return _release(git, "data", name, dataclasses.replace(made, artifacts=data), {}, remote)


def record_experiment(run_id: str, name: str, *, remote: str | None = None) -> Release:
    """Records a finished run as `exp/NAME-vN`, and its data as `data/NAME-vN` unless a release holds that data already.

    Raises:
        UserError: as `release_data`, or the run is not finished.
    """
    made, git = made_by_run(run_id), checkout()
    _checked_name(name)
    wanted = _by_kind({step: artifact for step, artifact in made.artifacts.items() if step in DATA_STEPS})
    known = [release for release in releases(git, "data", None) if digests(release.record) == wanted]
    data = known[-1] if known else release_data(name, made, remote=remote)
    kept = {step: artifact for step, artifact in made.artifacts.items() if not STEPS[step].effects}
    return _release(
        git,
        "exp",
        name,
        dataclasses.replace(made, artifacts=kept),
        {"data": {"tag": data.tag, "commit": data.commit}},
        remote,
    )


def _by_kind(artifacts: Mapping[str, Artifact]) -> dict[str, str]:
    return {artifact.kind: artifact.digest for artifact in artifacts.values()}


def check_can_release(name: str) -> None:
    """What can be told before hours of work.

    Raises:
        UserError: a name that no tag can have, no git checkout or identity, or a step whose code is in no commit.
    """
    _checked_name(name)
    git = checkout()
    git.require_identity()
    changed = set(git.state().changed)
    sources = Sources()
    for step in STEPS.values():
        edited = sorted(changed.intersection(sources.closure(step.module)))
        if edited:
            raise UserError(
                f"{edited[0]} is changed and '{step.name}' rests on it: commit it first; a release must name the code "
                "that made it"
            )


def _release(git: Git, kind: str, name: str, made: Made, extra: Mapping[str, Any], remote: str | None) -> Release:
    git.require_identity()
    tag = f"{kind}/{name}-v{next_version(git, kind, name)}"
    address = remote or default_remote()
    record = {
        "schema_version": SCHEMA_VERSION,
        "tag": tag,
        "run": made.run,
        "source": made.source,
        "threads": made.threads,
        # A folder of this machine means nothing elsewhere: there, that machine's own remote is asked.
        "remote": address if "://" in address else None,
        **extra,
        "steps": {step: _step_record(artifact) for step, artifact in made.artifacts.items()},
        "contents": describe_data(made.artifacts),
        "totals": {
            "files": sum(len(artifact.files) for artifact in made.artifacts.values()),
            "bytes": sum(artifact.size for artifact in made.artifacts.values()),
        },
        "provenance": dict(made.provenance),
    }
    with apart("HEAD", "release") as tree:
        _check_code(tree.root, made)
        figures: list[str] = []
        for step, artifact in made.artifacts.items():
            export_artifact(artifact, tree.root / "artifacts" / step)
            figures += write_figures(artifact, tree.root)
        _write_parameters(tree.root / "params.yaml", made)
        if made.source == INGEST:
            _write_ingest_stages(tree.root / "dvc.yaml")
        state.write_json(tree.root / RECORD, record)
        dvc = Dvc(tree.root)
        dvc.use(remote=address, cache=tree.root / ".dvc" / "cache")
        ingested = [f"artifacts/{INGEST}"] if made.source == INGEST else []
        if ingested:
            dvc.run("add", *ingested)  # no stage makes it: what was ingested lies outside of the project
        stages = [step for step in made.artifacts if step != INGEST]
        dvc.run("commit", "--force", *stages)
        dvc.push(*ingested, *stages)
        tracked = ["dvc.lock", "dvc.yaml", "params.yaml", *(f"{path}.dvc" for path in ingested)]
        commit = tree.commit_all(f"Release {tag}", [*tracked, *figures, RECORD])
    git.tag(tag, commit, f"{tag}\n\ncommit {commit}")
    see_tag(tag, commit)
    return Release(tag=tag, commit=commit, record=record, new=True)


def _step_record(artifact: Artifact) -> dict[str, Any]:
    values = dataclasses.asdict(artifact)
    return {key: values[key] for key in ("fingerprint", "digest", "code_version", "parameters", "summary", "files")}


def _check_code(tree: Path, made: Made) -> None:
    """UserError when the code of HEAD is not the code that made the artefacts."""
    sources = Sources(tree)
    for step, artifact in made.artifacts.items():
        if sources.version(STEPS[step].module) != artifact.code_version:
            raise UserError(
                f"the finished '{step}' was made by other code than that of HEAD: commit your changes, or run again "
                "from what is committed; a release must name the code that made it"
            )


def _write_parameters(path: Path, made: Made) -> None:
    """params.yaml with the values that were used, so that no preset or option is needed to repeat them."""
    values = read_mapping(path)
    values |= {"seed": made.seed, "preset": PLAIN}
    if made.source == "collect":
        values["ingest"] = {**(values.get("ingest") or {}), "dataset": ""}
    values |= {step: dict(parameters) for step, parameters in made.parameters.items()}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _write_ingest_stages(path: Path) -> None:
    """dvc.yaml whose stages read `artifacts/ingest`, which `dvc add` tracks, and without `collect`."""
    values = read_mapping(path)
    del values["stages"]["collect"]
    text = yaml.safe_dump(values["stages"], sort_keys=False).replace("artifacts/collect", f"artifacts/{INGEST}")
    values["stages"] = yaml.safe_load(text)
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise UserError(f"'{name}' cannot name a release: use lower-case letters, digits, '-' and '_', such as cubes")
    return name
