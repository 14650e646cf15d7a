"""Doing it again: the code, data and parameters of a release or a run, in a checkout and a state folder of their own.

    LINGBOT_HOME/reproductions/<id>/tree              a git worktree of the commit; gone at the end
                                    home              the state folder that everything is made in
                                    comparison.json   what came out, beside what was recorded

Nothing of the current checkout is imported there, no finished step of the state folder is seen, and the registry, the
ledger and the shared storage are not touched. The data is fetched and every byte is checked; with `remake_data` it is
made again instead (ingested data is always fetched).
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from components import state
from components.adapters.versioning import TELEMETRY_OFF
from components.code_version import code_version
from components.exchange import MANIFEST, export_artifact, read_export
from components.steps import STEPS
from model.errors import UserError
from pipelines.comparison import BITWISE, DIFFERENT, TOLERANCE, Result, compare, of_release, of_run
from pipelines.history import read_run
from pipelines.parameters import PLAIN
from pipelines.release import DATA_STEPS, made_by_run
from pipelines.tags import checkout, fetch_artifacts, find_release

EXIT_CODES = {BITWISE: 0, TOLERANCE: 3, DIFFERENT: 4}
# What would lead out of the reproduction: into the shared storage, the registry, or other code.
_LEFT_OUT = ("LINGBOT_STORAGE", "LINGBOT_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PYTHONPATH")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Failed(Exception):
    """A command in the other tree failed with the exit code `code`; its own message says why."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be done again.

    Attributes:
        result: what came out the first time.
        commit: of the code.
        source: "collect" or "ingest".
        whole: the whole DAG; otherwise the data alone.
        parameters: seed, preset and every step's section, complete.
        threads: of arithmetic; None: not recorded.
        fetch: puts the artefacts of some steps, checked, into `tree/artifacts`.
    """

    result: Result
    commit: str
    source: str
    whole: bool
    parameters: Mapping[str, Any]
    threads: int | None
    fetch: Callable[[Path, Sequence[str]], None]


def find_target(reference: str, *, remote: str | None = None) -> Target:
    """What a tag `exp/...` or `data/...`, or the id of a run, stands for.

    Raises:
        UserError: no such, a tag that was moved, or a run whose code is in no commit.
    """
    if reference.startswith(("data/", "exp/")):
        release = find_release(reference)
        record = release.record

        def pull(tree: Path, steps: Sequence[str]) -> None:
            fetch_artifacts(release, tree, steps, remote=remote)

        return Target(
            result=of_release(reference, record),
            commit=release.commit,
            source=record["source"],
            whole=reference.startswith("exp/"),
            parameters=record["provenance"]["parameters"],
            threads=record["threads"],
            fetch=pull,
        )
    return _run_target(read_run(reference))


def _run_target(run: Mapping[str, Any]) -> Target:
    made, commit = made_by_run(run["id"]), run["provenance"]["code"]["commit"]
    if commit is None or checkout().resolve(commit) is None:
        raise UserError(
            f"run {run['id']} was made from code that is in no commit here ({commit}): it cannot be fetched"
        )

    def copy(tree: Path, steps: Sequence[str]) -> None:
        for step, artifact in made.artifacts.items():
            if code_version(STEPS[step].module, tree) != artifact.code_version:
                raise UserError(
                    f"run {run['id']} made '{step}' with changes that were not committed to {commit[:12]}: "
                    "its code cannot be fetched; commit the code first, then run and record"
                )
        for step in steps:
            export_artifact(made.artifacts[step], tree / "artifacts" / step)

    return Target(
        result=of_run(run),
        commit=commit,
        source=run["source"],
        whole=True,
        parameters=run["provenance"]["parameters"],
        threads=run["threads"],
        fetch=copy,
    )


def reproduce(target: Target, say: Callable[[str], None], *, remake_data: bool = False) -> tuple[dict[str, Any], Path]:
    """Does it again; returns the comparison and the folder that holds it with everything that was made.

    Raises:
        UserError: the data cannot be fetched or is not what was released. Nothing is left behind then.
        Failed: a command in the other tree failed; what it had finished is kept in the folder.
    """
    folder = state.make_home() / "reproductions" / state.new_run_id()
    git, tree = checkout(), folder / "tree"
    say(f"{target.result.name}: code of commit {target.commit[:12]} in {tree}")
    git.add_worktree(target.commit, tree)
    prepared = False
    try:
        environment = _environment(tree, folder / "home", target.threads)
        options = _prepare(target, tree, environment, say, remake_data=remake_data or not target.whole)
        prepared = True
        again = (_run_dag if target.whole else _run_data)(target, tree, folder / "home", environment, options)
    finally:
        git.run("worktree", "remove", "--force", str(tree))
        if not prepared:
            shutil.rmtree(folder)
    comparison = compare(target.result, again)
    state.write_json(folder / "comparison.json", comparison)
    return comparison, folder


def _prepare(
    target: Target, tree: Path, environment: Mapping[str, str], say: Callable[[str], None], *, remake_data: bool
) -> list[str]:
    """Fetches what is not made again and writes the parameters; returns the options that every command gets."""
    steps = [step for step in target.result.digests if step in DATA_STEPS]
    fetched = [step for step in steps if not remake_data or step == "ingest"]
    target.fetch(tree, fetched)
    for step in fetched:
        found = read_export(tree / "artifacts" / step).digest
        if found != target.result.digests[step]:
            raise UserError(f"{step}/{MANIFEST} has the digest {found[:12]}, not that of '{target.result.name}'")
    if fetched:
        say(f"data fetched, every byte as it was recorded: {', '.join(fetched)}")
        _call(["components.exchange", *(f"artifacts/{step}" for step in fetched)], tree, environment, quiet=True)
    given = {**target.parameters, "preset": PLAIN}  # every value is there, so no preset changes any
    if target.source == "ingest":
        # What it was ingested from may be elsewhere; the released copy is the same bytes.
        given["ingest"] = {**given["ingest"], "dataset": str(tree / "artifacts" / "ingest" / "data")}
    (tree / "parameters.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return ["--params", str(tree / "parameters.yaml")]


def _run_dag(target: Target, tree: Path, home: Path, environment: Mapping[str, str], options: Sequence[str]) -> Result:
    failure = None
    try:
        _call(["pipelines.cli", "run", *options], tree, environment)
    except Failed as failed:
        failure = failed
    records = [json.loads(path.read_text()) for path in (home / "runs").glob("*/run.json")]
    finished = {step["name"] for record in records for step in record["steps"] if step.get("digest")}
    # What comes after the steps (serving for a moment, the report) is no part of the result.
    if failure and not finished.issuperset(target.result.digests):
        raise failure
    (record,) = records
    again = of_run(record)
    return dataclasses.replace(again, name="the reproduction", parameters=target.result.parameters)


def _run_data(target: Target, tree: Path, home: Path, environment: Mapping[str, str], options: Sequence[str]) -> Result:
    digests = {}
    for step in target.result.digests:
        _call(["pipelines.cli", "step", step, *options, "--artifacts", "artifacts"], tree, environment)
        digests[step] = read_export(tree / "artifacts" / step).digest
    return dataclasses.replace(target.result, name="the reproduction", digests=digests)


def _environment(tree: Path, home: Path, threads: int | None) -> dict[str, str]:
    """Of the commands in the tree: its own code and state, and the threads that were used the first time."""
    kept = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    counted = dict.fromkeys(_THREADS, str(threads)) if threads else {}
    return {**kept, **TELEMETRY_OFF, **counted, "PYTHONPATH": str(tree), "LINGBOT_HOME": str(home)}


def _call(module: Sequence[str], tree: Path, environment: Mapping[str, str], *, quiet: bool = False) -> None:
    output = subprocess.PIPE if quiet else None
    command = [sys.executable, "-m", *module]
    finished = subprocess.run(command, cwd=tree, env=environment, stdout=output, stderr=output, text=True, check=False)
    if finished.returncode != 0:
        if finished.returncode == 130:
            raise KeyboardInterrupt
        said = f": {finished.stderr.strip().splitlines()[-1]}" if quiet and finished.stderr.strip() else ""
        raise Failed(
            f"`{' '.join(module[:3])}` of that commit ended with code {finished.returncode}{said}; "
            f"what it made is kept in {environment['LINGBOT_HOME']}",
            finished.returncode,
        )
