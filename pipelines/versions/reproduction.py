"""Doing it again: the code, data and parameters of a release, a run or a version, in a place of their own.

    LINGBOT_HOME/reproductions/<id>/tree              a git worktree of the commit; gone at the end
                                    home              the state folder that everything is made in
                                    comparison.json   what came out, beside what was recorded
                                    comparison.html   the same as a page

Nothing of the current checkout is imported there, no finished step of the state folder is seen, and the registry, the
ledger and the shared storage are not touched. The data is fetched and every byte is checked; with `remake_data` it is
made again instead (ingested data is always fetched). With `only="evaluate"` the trained policy is fetched as well, and
the evaluation alone is made again.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from components import state
from components.adapters.versioning import TELEMETRY_OFF, Git
from components.exchange import MANIFEST, read_export
from components.liveness import is_held
from components.provenance import CODE, package_versions
from components.steps import maker
from model.errors import UserError
from model.hardware import THREAD_VARIABLES
from pipelines.parameters import PLAIN
from pipelines.shape import dag_steps
from pipelines.versions.comparison import (
    BITWISE,
    DIFFERENT,
    TOLERANCE,
    Result,
    compare,
    environment_of,
    figures_of,
    of_run,
)
from pipelines.versions.comparison_page import write_page
from pipelines.versions.contents import OfHome, contents_of
from pipelines.versions.differences import differences
from pipelines.versions.release import DATA_STEPS
from pipelines.versions.tags import ALIVE, check_chain, checkout
from pipelines.versions.targets import Target

EXIT_CODES = {BITWISE: 0, TOLERANCE: 3, DIFFERENT: 4}
# What would lead out of the reproduction: into the shared storage, the registry, or other code.
_LEFT_OUT = ("LINGBOT_", "MLFLOW_", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "KFP_", "VIRTUAL_ENV")


class Failed(Exception):
    """A command in the other tree failed with the exit code `code`; its own message says why."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def reproduce(
    target: Target,
    say: Callable[[str], None],
    *,
    remake_data: bool = False,
    only: str | None = None,
    fresh_environment: bool = False,
    remote: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """Does it again; returns the comparison and the folder that holds it with everything that was made.

    Args:
        target: what.
        say: told where it stands.
        remake_data: make the data again instead of fetching it.
        only: "evaluate": fetch everything before the evaluation, and make that alone again.
        fresh_environment: install what that commit pins, instead of using this interpreter's packages.
        remote: of DVC, as for `find_target`.

    Raises:
        UserError: the data cannot be fetched or is not what was released. Nothing is left behind then.
        Failed: a command in the other tree failed; what it had finished is kept in the folder.
    """
    if only and only not in target.result.digests:
        raise UserError(f"{target.result.name} has no finished '{only}' to make again: leave --only out")
    remove_abandoned()
    folder = state.make_home() / "reproductions" / state.new_run_id()
    git, tree = checkout(), folder / "tree"
    changed = " and its changes that are in no commit" if target.changes else ""
    say(f"{target.result.name}: code of commit {target.commit[:12]}{changed} in {tree}")
    with _held(folder):
        git.add_worktree(target.commit, tree)
        prepared = False
        try:
            if target.changes:
                Git(tree).apply(target.changes)
            place = _Place(
                tree=tree,
                home=folder / "home",
                python=_install(tree, say) if fresh_environment else sys.executable,
                environment=_environment(tree, folder / "home", target.threads),
            )
            _check_isolated(place)
            if not fresh_environment:
                _say_packages(target.result, say)
            fetched = _steps_to_fetch(target, only, remake_data=remake_data or not target.whole)
            options = _prepare(target, place, fetched, say)
            prepared = True
            if only:
                again = _run_steps(target, place, [only], options)
            elif target.whole:
                again = _run_dag(target, place, options)
            else:
                again = _run_steps(target, place, list(target.result.digests), options)
        finally:
            git.run("worktree", "remove", "--force", str(tree))
            if not prepared:
                shutil.rmtree(folder)
        recorded = target.result
        if only:
            recorded = dataclasses.replace(recorded, digests={only: recorded.digests[only]}, bundle=None)
        comparison = compare(recorded, again)
        if comparison["outcome"] != BITWISE:
            sides = contents_of(target.reference, remote=remote), OfHome(place.home)
            comparison["differences"] = differences(recorded, again, *sides)
        comparison["remade"] = [only] if only else [step for step in again.digests if step not in fetched]
        state.write_json(folder / "comparison.json", comparison)
        write_page(comparison, folder / "comparison.html")
    return comparison, folder


def remove_abandoned() -> None:
    """Removes the worktrees of reproductions whose process was killed, and their folders when nothing was made yet."""
    for folder in (state.home() / "reproductions").glob("*/"):
        tree = folder / "tree"
        if tree.exists() and not is_held(folder / ALIVE):
            git = checkout()
            if git.succeeds("worktree", "remove", "--force", str(tree)) is False:
                shutil.rmtree(tree)
                git.run("worktree", "prune")
            if not (folder / "home" / "runs").exists():
                shutil.rmtree(folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """Where commands run: the tree, its state folder, the interpreter, and the environment variables."""

    tree: Path
    home: Path
    python: str
    environment: Mapping[str, str]


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Marks a reproduction as going on; the system lets go of the mark when this process dies, however it dies."""
    folder.mkdir(parents=True)
    with (folder / ALIVE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(tree: Path, say: Callable[[str], None]) -> str:
    """Installs what the commit pins into a virtual environment of the tree; returns its interpreter."""
    script = tree / ".ci" / "bootstrap.sh"
    if not script.is_file():
        raise UserError(f"{script.relative_to(tree)} is not in that commit: leave --fresh-environment out")
    say("installing the packages that this commit pins (some minutes)")
    done = subprocess.run([str(script), "run"], cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"the packages of that commit could not be installed: {done.stderr.strip()[-500:]}")
    return str(tree / ".venv" / "bin" / "python")


def _check_isolated(place: _Place) -> None:
    """UserError unless the commands in the tree import the tree's packages and no others."""
    asked = (
        "import model, components, pipelines; print(*(p.__file__ for p in (model, components, pipelines)), sep='\\n')"
    )
    done = subprocess.run(
        [place.python, "-c", asked], cwd=place.tree, env=place.environment, capture_output=True, text=True, check=False
    )
    found = done.stdout.splitlines()
    strange = [path for path in found if not Path(path).resolve().is_relative_to(place.tree.resolve())]
    if done.returncode != 0 or strange:
        raise UserError(
            f"the code of that commit would not be what runs: {strange[0] if strange else done.stderr.strip()[-300:]} "
            f"is imported instead of {place.tree}; uninstall what puts it there, or give --fresh-environment"
        )


def _say_packages(result: Result, say: Callable[[str], None]) -> None:
    """Tells of packages of other versions before hours are spent; the comparison lists them as well."""
    recorded, here = result.environment["packages"], package_versions()
    other = [
        f"{name} {recorded[name]} -> {here.get(name, 'none')}" for name in recorded if recorded[name] != here.get(name)
    ]
    if other:
        more = f" and {len(other) - 6} more" if len(other) > 6 else ""
        say(
            f"other packages than recorded: {', '.join(other[:6])}{more}; --fresh-environment installs what that "
            "commit pins"
        )


def _steps_to_fetch(target: Target, only: str | None, *, remake_data: bool) -> list[str]:
    """The steps whose artefacts are fetched, in order.

    Raises:
        UserError: one that cannot be made again is nowhere.
    """
    if only:
        by_name = {step.name: step for step in dag_steps(target.source)}
        steps = [maker(by_name[only], name) for name in by_name[only].inputs]
    else:
        steps = [step for step in target.result.digests if step in DATA_STEPS and (not remake_data or step == "ingest")]
    lost = [step for step in steps if step not in target.fetchable]
    if lost:
        raise UserError(
            f"the artefact of '{lost[0]}' of {target.result.name} is neither here nor in LINGBOT_STORAGE: set "
            "LINGBOT_STORAGE to where it is, or fetch its tag with `git fetch --tags`"
        )
    if target.source == "ingest" and not only and "ingest" not in steps:
        raise UserError(
            f"the ingested dataset of {target.result.name} is nowhere to be fetched: bring the tag of its data with "
            "`git fetch --tags`, or set LINGBOT_STORAGE to where it is"
        )
    return steps


def _prepare(target: Target, place: _Place, fetched: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Fetches what is not made again and writes the parameters; returns the options that every command gets."""
    tree = place.tree
    target.fetch(tree, fetched)
    brought = {step: read_export(tree / "artifacts" / step) for step in fetched}
    for step, artifact in brought.items():
        if artifact.digest != target.result.digests[step]:
            raise UserError(
                f"{step}/{MANIFEST} has the digest {artifact.digest[:12]}, not that of '{target.result.name}'"
            )
    check_chain(brought)
    if fetched:
        say(f"fetched, every byte as it was recorded: {', '.join(fetched)}")
        _call(["components.exchange", *(f"artifacts/{step}" for step in fetched)], place, quiet=True)
    given = {**target.parameters, "preset": PLAIN}  # every value is there, so no preset changes any
    if target.source == "ingest":
        # What it was ingested from may be elsewhere; the released copy is the same bytes.
        given["ingest"] = {**given["ingest"], "dataset": str(tree / "artifacts" / "ingest" / "data")}
    (tree / "parameters.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return ["--params", str(tree / "parameters.yaml")]


def _run_dag(target: Target, place: _Place, options: Sequence[str]) -> Result:
    failure = None
    try:
        _call(["pipelines.cli", "run", *options], place)
    except Failed as failed:
        failure = failed
    records = [json.loads(path.read_text()) for path in (place.home / "runs").glob("*/run.json")]
    finished = {step["name"] for record in records for step in record["steps"] if step.get("digest")}
    # What comes after the steps (serving for a moment, the report) is no part of the result.
    if failure and (not finished.issuperset(target.result.digests) or not finished):
        raise failure
    (record,) = records
    again = dataclasses.replace(of_run(record), name="the reproduction", parameters=target.result.parameters)
    first = target.result.commit
    if first and checkout().succeeds("diff", "--quiet", first, target.commit, "--", *CODE):
        return dataclasses.replace(again, commit=first)  # a release is a commit of its own, with the same code in it
    return again


def _run_steps(target: Target, place: _Place, steps: Sequence[str], options: Sequence[str]) -> Result:
    """Some steps, each by `lingbot step`; the result has these alone."""
    made = {}
    for step in steps:
        _call(["pipelines.cli", "step", step, *options, "--artifacts", "artifacts"], place)
        made[step] = read_export(place.tree / "artifacts" / step)
    asked = "import json; from components.provenance import *; print(json.dumps([hardware(), package_versions()]))"
    said = subprocess.run(
        [place.python, "-c", asked], cwd=place.tree, env=place.environment, capture_output=True, text=True, check=True
    )
    hardware, packages = json.loads(said.stdout)
    return dataclasses.replace(
        target.result,
        name="the reproduction",
        digests={step: artifact.digest for step, artifact in made.items()},
        figures=figures_of({step: artifact.summary for step, artifact in made.items()}),
        environment=environment_of(hardware, packages, target.threads),
        bundle=None,
    )


def _environment(tree: Path, home: Path, threads: int | None) -> dict[str, str]:
    """Of the commands in the tree: its own code and state, and the threads that were used the first time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    counted = dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}
    return {**kept, **TELEMETRY_OFF, **counted, "PYTHONPATH": str(tree), "LINGBOT_HOME": str(home)}


def _call(module: Sequence[str], place: _Place, *, quiet: bool = False) -> None:
    output = subprocess.PIPE if quiet else None
    command = [place.python, "-m", *module]
    finished = subprocess.run(
        command, cwd=place.tree, env=place.environment, stdout=output, stderr=output, text=True, check=False
    )
    if finished.returncode != 0:
        if finished.returncode == 130:
            raise KeyboardInterrupt
        said = f": {finished.stderr.strip().splitlines()[-1]}" if quiet and finished.stderr.strip() else ""
        raise Failed(
            f"`{' '.join(module[:3])}` of that commit ended with code {finished.returncode}{said}; "
            f"what it made is kept in {place.home}",
            finished.returncode,
        )
