"""What the state folder holds, why each thing is kept, and the removal of what nothing refers to.

Never collected: what a release's tag, a registered version, an alias or the ledger refers to, with everything that it
was made from; what a run of the last days used; what is being worked on. DVC's remote and the shared storage belong to
others too, whose tags are not here: they are reported and left alone (`dvc gc --all-tags --cloud` is DVC's own way).
"""

import dataclasses
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from components import records, state
from components.artifacts import Artifact
from components.endpoint.last_served import all_last_served
from components.ledger import Ledger
from components.liveness import is_alive, is_held
from components.servings import GONE_AFTER_SECONDS
from model.errors import UserError
from pipelines.history import known_runs, read_run
from pipelines.versions.tags import ALIVE, checkout, releases

STEP, BUNDLE, EVALUATION, RUN, REPRODUCTION, CACHE = "step", "bundle", "evaluation", "run", "reproduction", "cache"
ENDPOINT = "endpoint"  # the record of what one process served
KINDS = (STEP, BUNDLE, EVALUATION, RUN, REPRODUCTION, ENDPOINT, CACHE)
# Fetched from elsewhere and fetched again when needed.
_CACHES = ("dvc-cache", "releases")
_DAY = 86_400.0

References = dict[tuple[str, str], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that can be removed.

    Attributes:
        kind: one of `KINDS`.
        name: a step's `<step>/<fingerprint>`, a digest, an id.
        path: where it lies.
        size: in bytes.
        age: in seconds, of its newest file.
        kept: why it stays; None: nothing refers to it.
    """

    kind: str
    name: str
    path: Path
    size: int
    age: float
    kept: str | None = None


def plan_collection(keep_days: float) -> list[Item]:
    """Everything in the state folder that could be removed, with the reason of what stays.

    Args:
        keep_days: what was used by a run, or written, within so many days stays.

    Raises:
        UserError: what is referred to cannot be told: no git checkout, a damaged ledger, a registry that is away.
    """
    if keep_days < 0:
        raise UserError(f"--keep-days is {keep_days:g}: it must be 0 or more")
    referred = references(keep_days)
    items = []
    for item in inventory():
        why = referred.get((item.kind, item.name)) or _in_use(item)
        if why is None and item.age < keep_days * _DAY and item.kind != CACHE:
            why = f"written within {keep_days:g} days"
        items.append(dataclasses.replace(item, kept=why))
    return items


def references(keep_days: float) -> References:
    """(kind, name) -> what refers to it. The first to refer is the reason; tags come first."""
    found: References = {}
    for kind, name, why in (*_of_tags(), *_of_registry(), *_of_ledger(), *_of_runs(keep_days), *_of_starts()):
        found.setdefault((kind, name), why)
    _add_ancestors(found)
    return found


def inventory() -> Iterator[Item]:
    """What lies in the state folder, without reasons."""
    home = state.home()
    for kind, pattern, parts in (
        (STEP, "steps/*/*", 2),
        (BUNDLE, "bundles/*", 1),
        (EVALUATION, "evaluations/*.json", 1),
        (RUN, "runs/*", 1),
        (REPRODUCTION, "reproductions/*", 1),
        (ENDPOINT, "endpoints/*/*.json", 2),
        *((CACHE, name, 1) for name in _CACHES),
    ):
        for path in sorted(home.glob(pattern)):
            # What lies beside a bundle goes with it; hidden names are half-written.
            if path.name.startswith(".") or path.name.endswith(".provenance"):
                continue
            size, newest = _size(path)
            name = "/".join(path.parts[-parts:]).removesuffix(".json")
            yield Item(kind=kind, name=name, path=path, size=size, age=time.time() - newest)


def collect(items: Sequence[Item]) -> list[Item]:
    """Removes what nothing refers to; returns what was removed.

    Raises:
        UserError: a run is going on, which may be about to use it.
    """
    going = [run for run in known_runs() if is_alive(run)]
    if going:
        raise UserError(f"run {going[0]} is going on and may use what would be removed: collect when it has ended")
    removed = []
    for item in items:
        if item.kept is not None:
            continue
        if item.kind == STEP:
            step, _, fingerprint = item.name.partition("/")
            if not _try_remove_step(step, fingerprint):
                continue
        elif item.path.is_dir():
            shutil.rmtree(item.path)
            beside = item.path.with_name(f"{item.path.name}.provenance")
            if item.kind == BUNDLE and beside.exists():
                shutil.rmtree(beside)
        else:
            item.path.unlink(missing_ok=True)
        removed.append(item)
    return removed


def _of_tags() -> Iterator[tuple[str, str, str]]:
    git = checkout()
    for kind in ("exp", "data"):
        for release in releases(git, kind, None):
            for step, values in release.record["steps"].items():
                yield STEP, f"{step}/{values['fingerprint']}", f"the tag {release.tag}"
            if release.record["run"]:
                yield RUN, release.record["run"], f"the tag {release.tag}"


def _of_registry() -> Iterator[tuple[str, str, str]]:
    from components.adapters import tracking

    for model in tracking.list_models():
        for version in tracking.list_versions(model):
            alias = f" ({', '.join(version.aliases)})" if version.aliases else ""
            why = f"{model}/{version.version}{alias}"
            yield BUNDLE, version.digest, why
            for name, value in version.tags.items():
                if name.startswith("step."):
                    yield STEP, f"{name.removeprefix('step.')}/{value}", why
            yield EVALUATION, version.tags.get("evaluation_digest", ""), why
            yield RUN, version.tags.get("run_id", ""), why


def _of_ledger() -> Iterator[tuple[str, str, str]]:
    for entry in Ledger().entries():
        why = f"the ledger, entry {entry.sequence}"
        yield BUNDLE, entry.bundle_digest or "", why
        yield EVALUATION, entry.evidence or "", why


def _of_runs(keep_days: float) -> Iterator[tuple[str, str, str]]:
    runs = known_runs()
    for run_id in runs:
        run = read_run(run_id)
        recent = time.time() - run["started"] < keep_days * _DAY
        # The newest run stays whatever its age: `lingbot run` goes on from it.
        if recent or run_id == runs[-1] or run["status"] == "running":
            why = f"run {run_id}"
            yield RUN, run_id, why
            for entry in run["steps"]:
                if entry.get("fingerprint"):
                    yield STEP, f"{entry['step']}/{entry['fingerprint']}", why
                bundle = entry.get("summary", {}).get("bundle_digest")
                if bundle:
                    yield BUNDLE, bundle, why


def _of_starts() -> Iterator[tuple[str, str, str]]:
    for last in all_last_served():
        yield BUNDLE, last.digest, f"{last.model}/{last.version} was served last: an endpoint starts on it offline"


def _add_ancestors(found: References) -> None:
    """What a kept step was made from stays too."""
    waiting = [(name, why) for (kind, name), why in found.items() if kind == STEP]
    while waiting:
        name, why = waiting.pop()
        path = state.steps_folder() / name / "manifest.json"
        if not path.exists():
            continue
        for source in Artifact.from_bytes(path.read_bytes(), str(path)).inputs.values():
            above = f"{source.step}/{source.fingerprint}"
            if (STEP, above) not in found:
                found[STEP, above] = why
                waiting.append((above, why))


def _in_use(item: Item) -> str | None:
    if item.kind == RUN and is_alive(item.name):
        return "it is going on"
    if item.kind == REPRODUCTION and is_held(item.path / ALIVE):
        return "it is going on"
    if item.kind == ENDPOINT and item.age < GONE_AFTER_SECONDS:
        return "it serves"
    if item.kind == STEP and is_held(item.path / "lock"):
        return "it is being made"
    return None


def _try_remove_step(step: str, fingerprint: str) -> bool:
    """Removes a finished or abandoned execution unless a process has taken it up since it was listed."""
    if is_held(state.step_folder(step, fingerprint) / "lock"):
        return False
    with records.lock(step, fingerprint, lambda holder: None):
        records.remove(step, fingerprint)
        shutil.rmtree(state.step_folder(step, fingerprint))
    return True


def _size(path: Path) -> tuple[int, float]:
    """Bytes of all files, and when the newest of them was written. What goes meanwhile, a running step's scratch for
    instance, is not counted."""
    names = [path, *(Path(folder) / name for folder, _, files in os.walk(path) for name in files)]
    found = [status for name in names if (status := _status(name)) is not None]
    files = [status for status in found if stat.S_ISREG(status.st_mode)]
    newest = max((status.st_mtime for status in files or found), default=time.time())
    return sum(status.st_size for status in files), newest


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def elsewhere() -> dict[str, int]:
    """Bytes that are reported and never collected: DVC's local remote, the shared storage."""
    found = {}
    remote = state.home() / "dvc-remote"
    if remote.exists():
        found["dvc-remote"] = _size(remote)[0]
    storage = records.open_storage()
    if storage is not None:
        found[storage.url] = sum(file.size for file in storage.list())
    return found


def to_json(items: Sequence[Item], others: Mapping[str, int]) -> str:
    rows = [{**dataclasses.asdict(item), "path": str(item.path), "age": round(item.age, 1)} for item in items]
    return json.dumps({"items": rows, "elsewhere": dict(others)}, indent=1)
