"""What a reader needs from a file system: the part of fsspec's interface that local folders and object stores share."""

import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast


class FileSystem(Protocol):
    """The methods of `fsspec.AbstractFileSystem` that are used here, so any fsspec file system can be given."""

    def find(self, path: str, **options: Any) -> list[str]:
        """Paths of every file under `path`, at any depth."""

    def open(self, path: str, mode: str = "rb", **options: Any) -> BinaryIO:
        """A seekable file."""


class LocalFiles:
    """The local disk as a `FileSystem`."""

    def find(self, path: str, **options: Any) -> list[str]:
        return [os.path.join(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names]

    def open(self, path: str, mode: str = "rb", **options: Any) -> BinaryIO:
        return cast(BinaryIO, open(path, mode))


class DatasetFiles:
    """The files of one dataset, listed once, addressed by their path relative to its root."""

    def __init__(self, root: str | Path, filesystem: FileSystem | None = None) -> None:
        self.root = str(root).rstrip("/")
        self.local = filesystem is None
        self._filesystem: FileSystem = LocalFiles() if filesystem is None else filesystem
        # An object store drops the scheme and the leading slash from the names it lists: compare without them.
        prefix = self.root.split("://", 1)[-1].strip("/") + "/"
        listed = (path.split("://", 1)[-1].lstrip("/") for path in self._filesystem.find(self.root))
        self.names = frozenset(path.removeprefix(prefix) for path in listed)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def under(self, folder: str, suffix: str = "") -> list[str]:
        """Names below `folder` (relative, without a trailing slash) that end in `suffix`, sorted."""
        return sorted(name for name in self.names if name.startswith(folder + "/") and name.endswith(suffix))

    def path(self, name: str) -> str:
        """The full path of `name`, as it is shown to a person."""
        return f"{self.root}/{name}"

    def open(self, name: str) -> BinaryIO:
        return self._filesystem.open(self.path(name), "rb")

    def source(self, name: str) -> "str | BinaryIO":
        """What a library that reads by name or by file object should be given: the name where the file is local."""
        return self.path(name) if self.local else self.open(name)

    def text(self, name: str) -> str:
        with self.open(name) as file:
            return file.read().decode("utf-8")
