"""What a run was made from and on: code, data, parameters, seeds, packages, images, hardware and the command line.

`components.provenance_files` says where such a record is kept.
"""

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from components import state
from components.adapters.versioning import CodeState, Git
from components.secrets import BLOT, is_secret_name, redacted
from model.errors import UserError
from model.hardware import THREAD_VARIABLES

SCHEMA_VERSION = 2  # 1 had no images, and of the data no digests
# What DVC writes into a checkout is a result, not code: it makes no run dirty.
RESULTS = ("dvc.lock", "metrics", "plots")
# A file that git does not know is code in these folders alone. Beside them lies what commands were told to write: a
# recording, a bundle, a key. No step reads it unless a parameter names it, and no record may hold it.
CODE = ("pipelines", "components", "model")
IMAGE = "LINGBOT_IMAGE"  # the image that this process runs in, by digest where its pod says so
COMMIT = "LINGBOT_COMMIT"  # the commit that this process' image was built from: an image has no git
# What of the processor changes results or speed: the widest arithmetic that libraries choose by.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "sve", "bf16")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def provenance(
    parameters: Mapping[str, Any],
    *,
    data: Mapping[str, Any] | None = None,
    images: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """A record of this moment, JSON-able.

    Args:
        parameters: of the run, complete (as `RunParameters.to_json` gives them).
        data: where the data came from, if a tag was given: {tag, commit, digests}.
        images: role -> image of a run on a cluster.
        threads: of arithmetic in a step, where the run chose them.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "code": code_record(code_state()),
        "data": dict(data) if data else None,
        "parameters": dict(parameters),
        "seeds": dict(sorted(find_seeds(parameters))),
        "threads": threads,
        "packages": package_versions(),
        "images": {**image_digests(images or {}), **image_here()},
        "hardware": hardware(),
        "command": [*_without_secrets(sys.argv)],
    }


def code_state() -> CodeState:
    """The code of this process: that of the checkout, or the commit that its image was built from.

    Raises:
        UserError: LINGBOT_COMMIT is no commit.
    """
    found = Git(state.checkout()).state(without=RESULTS, new_in=CODE)
    return found if found.commit else CodeState(commit=built_from(), dirty=None)


def built_from() -> str | None:
    """The commit of this process' image; None outside of one.

    Raises:
        UserError: LINGBOT_COMMIT is no commit.
    """
    commit = os.environ.get(COMMIT)
    if commit and not _HASH.fullmatch(commit):
        raise UserError(f"{COMMIT} is '{commit}': give the full hash of the commit that the image was built from")
    return commit or None


def code_record(code: CodeState) -> dict[str, Any]:
    """What a record says of code, JSON-able."""
    return {"commit": code.commit, "dirty": code.dirty, "changed": list(code.changed)}


def image_here() -> dict[str, dict[str, str | None]]:
    """The image that this process runs in, as the role `here`; nothing where none is named."""
    reference = os.environ.get(IMAGE)
    return image_digests({"here": reference}) if reference else {}


def image_digests(images: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """Role -> {reference, digest}; the digest is None where the reference is a tag, which can be moved."""
    named = {role: (reference, *reference.partition("@sha256:")[1:]) for role, reference in sorted(images.items())}
    return {
        role: {"reference": reference, "digest": f"sha256:{digest}" if found else None}
        for role, (reference, found, digest) in named.items()
    }


def find_seeds(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every parameter that is a seed, by its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from find_seeds(value, f"{prefix}{name}.")
        elif name.endswith("seed") and isinstance(value, int):
            yield f"{prefix}{name}", value


def package_versions() -> dict[str, str]:
    """Name -> version of every installed distribution, local suffixes (+cpu) included.

    What setuptools carries for itself is left out: once it is imported, its folder is on the path.
    """
    found: dict[str, str] = {}
    for item in distributions():
        if Path(str(item.locate_file(""))).name != "_vendor":
            described = item.metadata  # once: it is read and parsed whole
            if described["Name"]:
                found.setdefault(described["Name"], described["Version"])  # the first on the path is what is imported
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def hardware() -> dict[str, Any]:
    """Processor, cores, memory (bytes), threads and platform. No host name: a record may be published."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _cpu_field("model name") or platform.processor(),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in _cpu_field("flags", "Features").split()],
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


def _cpu_field(*names: str) -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    return ""


def _without_secrets(arguments: list[str]) -> Iterator[str]:
    hide = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide:
            yield BLOT
        elif equals and is_secret_name(name):
            yield f"{name}={BLOT}"
        else:
            yield redacted(argument)
        hide = not equals and argument.startswith("--") and is_secret_name(argument)
