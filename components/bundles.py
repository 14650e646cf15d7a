"""Where registered bundles and their evaluations lie, by digest: in LINGBOT_STORAGE if set, else LINGBOT_HOME.

bundles/<sha256 of manifest.json>/          the bundle
evaluations/<sha256>.json                   the evaluation.json that a version was judged by
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components import kept, state
from components.adapters.storage import CorruptObject, Storage
from components.artifacts import hash_file
from components.records import open_storage
from model.bundle_files import MANIFEST, parse_manifest, verify_bundle
from model.errors import UserError

if TYPE_CHECKING:
    from model.bundle import Bundle

logger = logging.getLogger("lingbot.bundles")


def bundle_folder(digest: str) -> Path:
    """Where a bundle lies on this machine."""
    return state.home() / "bundles" / digest


def keep_bundle(folder: Path) -> tuple[str, str]:
    """Verifies a bundle and puts it where registered bundles lie. Returns its digest and its URI.

    Raises:
        UserError: it is no bundle, or its bytes are not those of its manifest.
    """
    digest = verify_bundle(folder)
    storage = open_storage()
    if storage is not None:
        storage.put_folder(folder, f"bundles/{digest}")
        return digest, storage.locate(f"bundles/{digest}")
    target = bundle_folder(digest)
    if not (target.exists() and _is_whole(target, digest)):
        _copy(folder, target)
        verify_bundle(target)
    return digest, target.as_uri()


def load_registered(digest: str, uri: str) -> "Bundle":
    """A registered bundle, fetched if it is not here, every byte checked. A copy here whose bytes have changed is
    fetched again: what an endpoint serves must not hang on one flipped bit of a disk.

    Raises:
        UserError: as `fetch_bundle`; or it is damaged where it is registered too.
    """
    from model.bundle import load_bundle

    folder = fetch_bundle(digest, uri)
    try:
        return load_bundle(folder)
    except UserError as error:
        if uri == folder.as_uri() or _is_whole(folder, digest):
            raise
        logger.warning("%s; it is fetched from %s", str(error).rstrip("."), uri)
        return load_bundle(fetch_bundle(digest, uri, every_byte=True))


def fetch_bundle(digest: str, uri: str, *, every_byte: bool = False) -> Path:
    """The folder of a registered bundle here, fetched if it is not here whole; who loads it checks its bytes.

    Several processes may ask at once: one fetches. Whether it is whole is told by names and sizes, with `every_byte` by
    the bytes.

    Raises:
        UserError: it is neither here nor at its URI, or what lies there is not that bundle.
    """
    target = bundle_folder(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_whole(target, digest) if every_byte else _looks_whole(target, digest):
            return target
        place, _, name = uri.rpartition("/")
        if not place or target.as_uri() == uri:
            if target.is_dir():
                verify_bundle(target)  # names the file
            raise UserError(
                f"bundle {digest[:12]} is not whole in {target}, and its registered place '{uri}' is no other: restore "
                "that folder, or promote a version whose bundle is whole"
            )
        storage = Storage.from_url(place)
        manifest = storage.read_bytes(f"{name}/{MANIFEST}")
        _check_manifest(manifest, digest, uri)
        files = {path: record["sha256"] for path, record in parse_manifest(manifest, uri)["files"].items()}
        storage.get_folder(name, target, sha256={**files, MANIFEST: digest})
    return target


def has_bundle(digest: str, uri: str, *, deep: bool = False) -> bool:
    """Whether the bundle can be read.

    On this machine every byte is read. In the shared storage the manifest is, and every file must be there in its size;
    with `deep` their bytes are read too, through a scratch folder.
    """
    target = bundle_folder(digest)
    place, _, name = uri.rpartition("/")
    if uri == target.as_uri() or not place:
        return _is_whole(target, digest)
    storage = Storage.from_url(place)
    if not storage.exists(f"{name}/{MANIFEST}"):
        return False
    try:
        manifest = storage.read_bytes(f"{name}/{MANIFEST}")
        _check_manifest(manifest, digest, uri)
        listed = parse_manifest(manifest, uri)["files"]
        present = {file.key.removeprefix(f"{name}/"): file.size for file in storage.list(name)}
        if present != {**{path: record["size"] for path, record in listed.items()}, MANIFEST: len(manifest)}:
            return False
        if deep:
            with tempfile.TemporaryDirectory(prefix="bundle-", dir=state.make_home()) as scratch:
                storage.get_folder(name, Path(scratch) / name, sha256={p: r["sha256"] for p, r in listed.items()})
    except CorruptObject:
        return False
    return True


def keep_evaluation(content: bytes) -> str:
    """Stores the bytes of an evaluation.json; returns their sha256."""
    digest = hashlib.sha256(content).hexdigest()
    kept.keep(_evaluation_key(digest), content)
    return digest


def read_evaluation(digest: str) -> bytes:
    """The evaluation of that digest, checked.

    Raises:
        UserError: it is gone, or was changed.
    """
    path, content = state.home() / _evaluation_key(digest), kept.find(_evaluation_key(digest))
    if content is None:
        raise UserError(f"the evaluation {digest[:12]} is gone: {path} does not exist; evaluate and register again")
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"the evaluation {path} was changed after it was stored: evaluate and register again")
    return content


def _evaluation_key(digest: str) -> str:
    return f"evaluations/{digest}.json"


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        verify_bundle(folder, digest=digest)
    except UserError:
        return False
    return True


def _looks_whole(folder: Path, digest: str) -> bool:
    """`_is_whole` by names and sizes: the weights are read once, by who loads them."""
    manifest = folder / MANIFEST
    if not manifest.is_file() or hash_file(manifest).sha256 != digest:
        return False
    listed = {path: record["size"] for path, record in json.loads(manifest.read_bytes())["files"].items()}
    present = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST}
    return listed == present


def _check_manifest(content: bytes, digest: str, uri: str) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorruptObject(
            f"what lies at {uri} is not the bundle {digest[:12]} that was registered: restore it from a copy, or "
            f"register it again"
        )


def _copy(folder: Path, target: Path) -> None:
    """Whole or not at all: a killed copy is never taken for a bundle."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
