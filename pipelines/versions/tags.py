"""Releases by their tags: found, checked against being moved, and fetched with every byte checked."""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components import records, state
from components.adapters.storage import CorruptObject
from components.adapters.versioning import Dvc, Git
from components.artifacts import Artifact, FileRecord, hash_folder
from components.exchange import DATA, import_artifact, read_export
from components.liveness import is_held
from components.steps import STEPS
from model.errors import UserError, unknown_name

RECORD = "release.json"
ALIVE = "alive"  # a file that is locked while what it lies beside, or in, is being made
SCHEMA_VERSION = 2  # 1 had no `contents`
_TAG = re.compile(r"(data|exp)/([a-z0-9][a-z0-9_-]{0,63})-v([1-9]\d*)\Z")
_SAID_COMMIT = re.compile(r"^commit ([0-9a-f]{40})$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """A tag, the commit that it leads to, and the record in that commit. `new` is False for one that existed."""

    tag: str
    commit: str
    record: Mapping[str, Any]
    new: bool = False


def find_release(tag: str) -> Release:
    """The release of a tag, after checking that it still is where it was made.

    Raises:
        UserError: no such tag, not a release, or one that was moved (with from where to where).
    """
    git = checkout()
    commit = git.resolve(f"refs/tags/{tag}")
    if commit is None:
        known = [*git.tags("data/*"), *git.tags("exp/*")]
        if not known:
            raise UserError(
                f"there is no release '{tag}' in {git.root}, nor any other: `git fetch --tags` brings those of others"
            )
        raise unknown_name("release", tag, known)
    said = _SAID_COMMIT.search(git.run("for-each-ref", "--format=%(contents)", f"refs/tags/{tag}"))
    released = {found for found in (said and said.group(1), _seen_tags().get(tag)) if found}
    if released != {commit}:
        before = next(iter(released - {commit}), None)
        raise UserError(
            f"the tag '{tag}' was moved from commit {before[:12]} to {commit[:12]} since it was released: move it back "
            f"with `git tag -f -a {tag} {before} -m 'commit {before}'`, or give what is new a version of its own"
            if before
            else f"the tag '{tag}' (commit {commit[:12]}) is not one that a release made: it was set by hand"
        )
    record = _record_at(git, commit)
    if record is None or record["tag"] != tag:
        raise UserError(f"the commit {commit[:12]} of the tag '{tag}' holds no {RECORD} of it: it is not a release")
    if record["schema_version"] > SCHEMA_VERSION:
        raise UserError(f"'{tag}' has schema version {record['schema_version']}: use the newer version that wrote it")
    if record.get("data"):
        data, at = record["data"]["tag"], record["data"]["commit"]
        now = git.resolve(f"refs/tags/{data}")
        if now != at:
            became = f"was moved from commit {at[:12]} to {now[:12]}" if now else "is gone"
            back = f"`git tag -f -a {data} {at} -m 'commit {at}'` moves it back"
            raise UserError(
                f"the tag '{data}' that '{tag}' was made from {became}: "
                + (back if now else f"`git fetch --tags` brings it, or {back}")
            )
    see_tag(tag, commit)
    return Release(tag=tag, commit=commit, record=record)


def fetch_artifacts(release: Release, tree: Path, steps: Sequence[str], *, remote: str | None = None) -> None:
    """Pulls the artefacts of some steps into `tree/artifacts/<step>` and checks every byte against the record.

    Args:
        release: whose.
        tree: a checkout of its commit.
        steps: names.
        remote: instead of the recorded or the configured one.

    Raises:
        UserError: the remote cannot be read or lacks something.
        CorruptObject: what came is not what was released.
    """
    if not steps:
        return  # DVC would take that for all of them
    dvc = Dvc(tree)
    address = remote or release.record["remote"] or default_remote()
    dvc.use(remote=address, cache=state.home() / "dvc-cache")
    try:
        dvc.run("pull", *(f"artifacts/{step}" for step in steps))
    except UserError as error:
        raise UserError(
            f"'{release.tag}' cannot be fetched from {address}: restore there what is missing or damaged, or name "
            f"a copy with `lingbot reproduce {release.tag} --remote URL` ({error})"
        ) from error
    for step in steps:
        recorded = {path: FileRecord(**values) for path, values in release.record["steps"][step]["files"].items()}
        found = hash_folder(tree / "artifacts" / step / DATA)
        wrong = sorted(path for path in {*recorded, *found} if recorded.get(path) != found.get(path))
        if wrong:
            raise CorruptObject(
                f"{step}/{wrong[0]} is not the file that '{release.tag}' released"
                + (f" ({len(wrong) - 1} more)" if len(wrong) > 1 else "")
                + ": the remote was changed; restore it from a copy"
            )
        manifest = read_export(tree / "artifacts" / step)
        if manifest.files != recorded or manifest.digest != release.record["steps"][step]["digest"]:
            raise CorruptObject(
                f"{step}/manifest.json is not the one that '{release.tag}' released: the remote was changed; "
                "restore it from a copy"
            )
    check_chain({step: read_export(tree / "artifacts" / step) for step in steps})


def check_chain(artifacts: Mapping[str, Artifact]) -> None:
    """UserError unless artefacts that are said to be of one run were made from each other.

    Args:
        artifacts: step -> its artefact. Inputs that come from none of these steps are not asked after.
    """
    for step, artifact in artifacts.items():
        for name, source in artifact.inputs.items():
            other = artifacts.get(source.step)
            if other is not None and other.digest != source.digest:
                raise UserError(
                    f"'{step}' was made from another {name}: it read {source.step} {source.digest[:12]}, and the "
                    f"'{source.step}' beside it is {other.digest[:12]}; they are not of one run: run again, then record"
                )


def fetch_dataset(tag: str) -> Path:
    """The folder with the dataset of a release, taken into the state folder and checked: for `--from-tag`.

    Raises:
        UserError: as `find_release` and `fetch_artifacts`.
    """
    release = find_release(tag)
    step = release.record["source"]
    with apart(release.commit, "fetch") as tree:
        fetch_artifacts(release, tree.root, [step])
        artifact = import_artifact(tree.root / "artifacts" / step)
    return records.data_folder(artifact.step, artifact.fingerprint)


def data_of_release(release: Release) -> dict[str, Any]:
    """For provenance: the tag that data comes from, with the commit and the digests that it leads to now."""
    digests = {step: values["digest"] for step, values in release.record["steps"].items()}
    return {"tag": release.tag, "commit": release.commit, "digests": digests}


def default_remote() -> str:
    """Where DVC keeps bytes: the configured remote, and `dvc-remote` in the state folder when none was configured."""
    root = state.checkout()
    configured = Dvc(root).remote_url()
    in_checkout = root / ".lingbot" / "dvc-remote"  # what .dvc/config names; LINGBOT_HOME moves it with the state
    if configured is None or configured == str(in_checkout):
        return str(state.home() / "dvc-remote")
    return configured


def checkout() -> Git:
    git = Git(state.checkout())
    git.require_checkout()
    return git


def releases(git: Git, kind: str, name: str | None) -> list[Release]:
    """The releases of a kind (and a name), by version."""
    found = []
    for tag, commit in git.tags(f"{kind}/*").items():
        match = _TAG.match(tag)
        record = _record_at(git, commit) if match and name in (None, match.group(2)) else None
        if match and record is not None and record["tag"] == tag:
            found.append((int(match.group(3)), Release(tag=tag, commit=commit, record=record)))
    return [release for _, release in sorted(found, key=lambda pair: pair[0])]


def next_version(git: Git, kind: str, name: str) -> int:
    versions = [int(match.group(3)) for tag in git.tags(f"{kind}/{name}-v*") if (match := _TAG.match(tag))]
    return max(versions, default=0) + 1


def _record_at(git: Git, commit: str) -> dict[str, Any] | None:
    content = git.file_at(commit, RECORD)
    return json.loads(content) if content is not None else None


def digests(record: Mapping[str, Any]) -> dict[str, str]:
    """Kind of artefact -> digest. By kind, because a dataset that was collected and then ingested is the same one."""
    return {STEPS[step].artifact: values["digest"] for step, values in record["steps"].items()}


@contextlib.contextmanager
def apart(commit: str, purpose: str) -> Iterator[Git]:
    """A checkout of a commit beside the state, on the same disk, removed at the end.

    Those of processes that were killed are removed first: each may hold a whole dataset.
    """
    folder = state.make_home() / "worktrees"
    folder.mkdir(exist_ok=True)
    for left in folder.glob("*/"):
        mark = folder / f"{left.name}.{ALIVE}"
        if not is_held(mark):
            shutil.rmtree(left)
            mark.unlink(missing_ok=True)
    place = folder / f"{purpose}-{os.getpid()}"
    mark = folder / f"{place.name}.{ALIVE}"
    with mark.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go of it when this process dies, however it dies
        try:
            with checkout().worktree(commit, place) as tree:
                yield tree
        finally:
            mark.unlink()


def _tags_path() -> Path:
    return state.home() / "tags.json"


def _seen_tags() -> dict[str, str]:
    path = _tags_path()
    return json.loads(path.read_text()) if path.exists() else {}


def see_tag(tag: str, commit: str) -> None:
    """Remembers where a release was, so that a tag that is moved later is noticed here."""
    seen = _seen_tags()
    if seen.get(tag) != commit:
        state.make_home()
        state.write_json(_tags_path(), {**seen, tag: commit})
