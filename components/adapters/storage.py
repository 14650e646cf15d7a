"""Storage of artefacts behind one interface: a folder here, or a bucket (storage_s3.py).

A stored file appears whole or not at all, and is checked against its sha256 when it is fetched. Keys are relative POSIX
paths. Transfers of folders resume: what is already there with equal bytes is not moved again.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from components.secrets import refuse_in_address
from model.errors import UserError
from model.progress import Progress, Silent


class CorruptObject(UserError):
    """Stored bytes that are not the bytes they are recorded as."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in storage. Size in bytes.

    `sha256` is None where it would take reading the file or asking for its record (a listing). `etag` is what a bucket
    gives an object: it changes when the bytes do.
    """

    key: str
    size: int
    sha256: str | None = None
    etag: str | None = None


@dataclass(kw_only=True)
class TransferJob:
    """One file of a folder on its way; an upload fills in `sha256`."""

    key: str
    path: Path
    size: int
    sha256: str | None = None


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Storage(ABC):
    """Where artefacts live. `url` names it in messages and manifests; it never holds credentials."""

    url: str

    @staticmethod
    def from_url(url: str | Path) -> "Storage":
        """Storage at a folder path, a file:// URL or s3://bucket/prefix. UserError for any other scheme."""
        text = str(url)
        refuse_in_address("the storage", text)
        if not text.strip():
            raise UserError(f"storage '{text}' names nothing: give a folder or s3://bucket/prefix.")
        try:
            parts = urlsplit(text)
        except ValueError as error:  # of brackets that do not close
            raise UserError(f"storage '{text}' is no address: give a folder or s3://bucket/prefix.") from error
        if "://" in text and (parts.query or parts.fragment):
            raise UserError(f"storage '{text}' holds '?' or '#', which end its path there: give it without them.")
        if parts.scheme == "s3":
            from components.adapters.storage_s3 import S3Storage

            return S3Storage(text)
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise UserError(f"storage '{text}' names the machine '{parts.netloc}': a folder here is file:///path.")
            return FolderStorage(Path(unquote(parts.path)))
        if "://" in text:
            raise UserError(f"storage '{text}' has the scheme '{parts.scheme}': give a folder or s3://bucket/prefix.")
        return FolderStorage(Path(text))

    def locate(self, key: str) -> str:
        """The full address of a key, for messages and manifests."""
        return f"{self.url}/{key}"

    @abstractmethod
    def probe(self) -> None:
        """Asks once whether the storage is there and lets us in; changes nothing. UserError when not."""

    @abstractmethod
    def put_file(self, path: Path, key: str) -> StoredFile:
        """Stores a file, replacing what is there; equal bytes are not moved again. UserError when it cannot."""

    @abstractmethod
    def get_file(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Fetches a file to `path`, atomically. The bytes must match `sha256`, or the record kept with them.

        Raises:
            UserError: nothing is stored under the key, or the storage cannot be reached.
            CorruptObject: the bytes do not match; `path` is left as it was.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether a file is stored under exactly this key."""

    @abstractmethod
    def read_bytes(self, key: str) -> bytes:
        """The bytes of a small file, checked against the record kept with them."""

    @abstractmethod
    def write_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Writes a small file; with `if_absent` an existing one stays (one writer of several wins). Says if it did."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """All files under a folder-like prefix, sorted by key."""

    @abstractmethod
    def _transfer_all(self, jobs: Sequence[TransferJob], progress: Progress, *, upload: bool) -> None:
        """Moves many files."""

    def put_folder(self, folder: Path, prefix: str, *, progress: Progress | None = None) -> dict[str, StoredFile]:
        """Stores every file of a folder under `prefix`; returns them by path relative to the folder.

        Files that are there already with equal bytes are left alone, so an interrupted upload goes on where it stopped.
        Files under the prefix that are not in the folder stay: the caller's manifest, written last, says what counts.
        """
        if not folder.is_dir():
            raise UserError(f"cannot store '{folder}': it is not a folder.")
        paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        jobs = [
            TransferJob(key=join(prefix, path), path=folder / path, size=(folder / path).stat().st_size)
            for path in paths
        ]
        self._transfer_all(jobs, progress or Silent(), upload=True)
        return {
            path: StoredFile(key=job.key, size=job.size, sha256=job.sha256)
            for path, job in zip(paths, jobs, strict=True)
        }

    def get_folder(
        self,
        prefix: str,
        folder: Path,
        *,
        sha256: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fetches everything under `prefix` into `folder`, which appears only when it is whole.

        Files arrive in a hidden folder beside it, where a later call goes on. With `sha256` (relative path to digest)
        exactly those files are fetched and each must match; without it, each must match the record kept with it.
        """
        stored = {file.key[len(prefix.rstrip("/")) + 1 :] if prefix else file.key: file for file in self.list(prefix)}
        wanted = dict(sha256) if sha256 is not None else {path: file.sha256 for path, file in stored.items()}
        missing = sorted(set(wanted) - set(stored))
        if missing or not wanted:
            raise UserError(f"nothing is stored at {self.locate(join(prefix, missing[0]) if missing else prefix)}.")
        partial = folder.with_name(f".{folder.name}.partial")
        if folder.exists() and not partial.exists():
            folder.rename(partial)
        partial.mkdir(parents=True, exist_ok=True)
        jobs = [
            TransferJob(key=join(prefix, path), path=_inside(partial, path), size=stored[path].size, sha256=digest)
            for path, digest in sorted(wanted.items())
        ]
        _keep_only(wanted, partial, unfinished=True)
        self._transfer_all(jobs, progress or Silent(), upload=False)
        _keep_only(wanted, partial, unfinished=False)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)


class FolderStorage(Storage):
    """A folder, on a disk or a share. Writes go to a temporary file beside the target, which is then renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.url = str(self.root)

    def probe(self) -> None:
        place = self.root
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise UserError(
                f"storage '{self.url}' cannot be written: {place} is no folder that this user may write to; "
                "name another, or give it write access."
            )

    def put_file(self, path: Path, key: str) -> StoredFile:
        target, digest = self._path(key), file_sha256(path)
        if not (target.is_file() and target.stat().st_size == path.stat().st_size and file_sha256(target) == digest):
            with atomic_file(target) as temporary:
                shutil.copyfile(path, temporary)
        return StoredFile(key=key, size=path.stat().st_size, sha256=digest)

    def get_file(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        source = self._existing(key)
        if sha256 is not None and path.is_file() and file_sha256(path) == sha256:
            return
        with atomic_file(path) as temporary:
            shutil.copyfile(source, temporary)
            if sha256 is not None:
                check_digest(file_sha256(temporary), sha256, self.locate(key))

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def read_bytes(self, key: str) -> bytes:
        return self._existing(key).read_bytes()

    def write_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        target = self._path(key)
        try:
            with atomic_file(target, replace=not if_absent) as temporary:
                temporary.write_bytes(data)
        except FileExistsError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        folder = self._path(prefix) if prefix else self.root
        for path in sorted(folder.rglob("*"), key=lambda path: path.as_posix()):
            if path.is_file() and not path.name.startswith(TEMPORARY):
                yield StoredFile(key=path.relative_to(self.root).as_posix(), size=path.stat().st_size)

    def _transfer_all(self, jobs: Sequence[TransferJob], progress: Progress, *, upload: bool) -> None:
        done, total = 0, sum(job.size for job in jobs)
        for job in jobs:
            if upload:
                job.sha256 = self.put_file(job.path, job.key).sha256
            else:
                self.get_file(job.key, job.path, sha256=job.sha256)
            done += job.size
            progress.update(done, total)

    def _path(self, key: str) -> Path:
        return _inside(self.root, key)

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise UserError(f"nothing is stored at {self.locate(key)}.")
        return path


TEMPORARY = ".partial-"


def _keep_only(wanted: Mapping[str, Any], folder: Path, *, unfinished: bool) -> None:
    """Removes what an earlier attempt left and is not wanted; with `unfinished`, not what a transfer goes on with."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        is_unfinished = path.name.startswith(TEMPORARY)
        if path.relative_to(folder).as_posix() not in wanted and not (unfinished and is_unfinished):
            path.unlink()


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """A full or read-only disk below `target`, or a file in place of a folder above it, is a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space is left for {target}: free some, or set LINGBOT_HOME to another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise UserError(f"{target} cannot be written: give this user write access to {target.parent}.") from error
        if error.errno == errno.ENOTDIR:
            raise UserError(f"{target} cannot be written: something above it is a file; name a folder.") from error
        raise


@contextmanager
def atomic_file(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary path beside `target` that becomes it when the block ends well. A full disk is a UserError.

    With `replace=False` an existing target stays and FileExistsError is raised.
    """
    temporary = None
    try:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
            os.close(handle)
            temporary = Path(name)
            temporary.chmod(0o644)  # mkstemp's 0600 would lock others out of a shared folder
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if replace:
                temporary.replace(target)
            else:
                _link(temporary, target)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, target: Path) -> None:
    """Makes `target`, whole, unless it is there."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise UserError(
                f"{target} cannot be made: the file system there has no hard links, by which one writer of several "
                "wins; name a folder on another, or s3://bucket/prefix."
            ) from error
        raise


def check_digest(found: str, expected: str, where: str) -> None:
    """CorruptObject unless the digests are equal."""
    if found != expected:
        raise CorruptObject(
            f"{where} has sha256 {found[:12]} and is recorded with {expected[:12]}: its bytes were changed after they "
            "were stored; delete it and store it again, or restore it from a copy."
        )


def join(prefix: str, key: str) -> str:
    """`prefix/key`, where the prefix may be empty."""
    return f"{prefix.rstrip('/')}/{key}" if prefix else key


def checked_key(key: str) -> str:
    """The key itself; one that leaves its root, or names a file in another way than its path, is a UserError."""
    unfit = any(part in ("", ".", "..") for part in key.rstrip("/").split("/"))
    if unfit or "\\" in key or any(ord(letter) < 32 for letter in key):
        raise UserError(f"storage key {key!r} is not a relative path that stays inside its root.")
    return key


def _inside(root: Path, key: str) -> Path:
    return root / checked_key(key)
