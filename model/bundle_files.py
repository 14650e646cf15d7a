"""The files of a bundle and the manifest that lists them: whether a folder is a bundle, and its bytes are right.

Reads no weights and needs no torch, so that a registry or a store can check a bundle without the model.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import UserError

SCHEMA_VERSION = 2
"""1 had one golden image for all cameras, and the mean state: `model.bundle` reads it still."""
MANIFEST = "manifest.json"
# Nothing in a bundle executes: data formats only.
_SUFFIXES = (".json", ".md", ".safetensors", ".yaml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a bundle folder.

    Raises:
        UserError: the folder is not a bundle, its manifest is damaged, or a newer version made it.
    """
    file = Path(path) / MANIFEST
    if not file.is_file():
        raise UserError(f"{path} is not a bundle: it has no {MANIFEST}; give the folder that training exported.")
    return parse_manifest(file.read_bytes(), str(path))


def parse_manifest(content: bytes, name: str) -> dict[str, Any]:
    """The manifest in these bytes; `name` is what errors call the bundle.

    Raises:
        UserError: it is damaged, lists what no bundle has, or a newer version made it.
    """
    try:
        manifest = json.loads(content)
        version, files, contract = manifest["schema_version"], manifest["files"], manifest["contract"]
        newer = version > SCHEMA_VERSION
        whole = isinstance(contract, dict) and all(
            _SHA256.match(record["sha256"]) and isinstance(record["size"], int) for record in files.values()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"bundle {name} has a damaged {MANIFEST}: fetch or export it again.") from error
    if newer:
        raise UserError(
            f"bundle {name} has schema version {version}, this code reads up to {SCHEMA_VERSION}: "
            f"update this installation."
        )
    if not whole:
        raise UserError(f"bundle {name} has a damaged {MANIFEST}: fetch or export it again.")
    strange = sorted(file for file in files if not _NAME.match(file) or not file.endswith(_SUFFIXES))
    if strange:
        raise UserError(
            f"bundle {name} lists '{strange[0]}': a bundle holds {', '.join(_SUFFIXES)} files and no folders; "
            f"export it again."
        )
    return dict(manifest)


def verify_bundle(path: Path, *, digest: str | None = None) -> str:
    """Checks every byte against the manifest and returns the bundle's digest, the sha256 of the manifest.

    Args:
        path: folder.
        digest: what the bundle must be.

    Raises:
        UserError: it is another bundle, or names each file that is missing, extra or changed.
    """
    path = Path(path)
    listed = read_manifest(path)["files"]
    found = sha256_of(path / MANIFEST)
    if digest is not None and found != digest:
        raise UserError(f"bundle {path} is {found[:12]}, not {digest[:12]} that was asked for: fetch it again.")
    present = {p.name for p in path.iterdir()} - {MANIFEST}
    problems = [f"{name} is missing" for name in sorted(set(listed) - present)]
    problems += [f"{name} is not in the manifest" for name in sorted(present - set(listed))]
    for name in sorted(set(listed) & present):
        if not (path / name).is_file() or _record(path / name) != listed[name]:
            problems.append(f"{name} has other bytes than the manifest says")
    if problems:
        raise UserError(f"bundle {path} is damaged: {'; '.join(problems)}. Fetch or export it again.")
    return found


def write_manifest(path: Path, contract: Mapping[str, Any]) -> None:
    """Lists the files of a folder with their sha256 and size, which makes it a bundle."""
    files = {file.name: _record(file) for file in sorted(path.iterdir()) if file.name != MANIFEST}
    manifest = {"schema_version": SCHEMA_VERSION, "files": files, "contract": dict(contract)}
    content = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    parse_manifest(content, str(path))
    (path / MANIFEST).write_bytes(content)


def _record(file: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(file), "size": file.stat().st_size}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
