"""The version of a step's code: a digest of the files that it can reach by imports, and of no others.

A change in the endpoint must not train again; a change in the dataset reader must validate again. So the version is
the sha256 over the source of every module of `model` and `components` that the step imports, directly or not, at the
top of a file or inside a function, and over the data files (YAML, JSON, XML) that lie beside those modules. Modules
imported by a computed name are not seen: a step imports by name. Libraries are not part of it: they are pinned, and
each run records their versions.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from components import state
from components.import_statements import imported_names

PACKAGES = ("components", "model")
DATA_SUFFIXES = {".yaml", ".yml", ".json", ".xml"}
# Descriptions for people and catalogues: no step reads them.
NO_DATA = {"metadata.yaml"}


def code_version(module: str, root: Path | None = None) -> str:
    """The sha256 (hex) of a module's import closure below `root`, the checkout by default."""
    return Sources(root).version(module)


class Sources:
    """The files below a root at one moment: ask one object for all steps of a DAG, as they share most of their files.

    A folder is listed when it is first met, and what a file imports is looked up once; an object that lives on does
    not see later changes. Files are named by their path below the root, with slashes.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or state.checkout()
        self._folders: dict[str, dict[str, os.DirEntry[str]]] = {}
        self._reached: dict[str, tuple[str, ...]] = {}
        self._versions: dict[str, str] = {}

    def version(self, module: str) -> str:
        """The sha256 (hex) of a module's import closure."""
        if module not in self._versions:
            digest = hashlib.sha256()
            for name in self.closure(module):
                stat = self._entry(name).stat()
                content = _file_digest(str(self._root / name), stat.st_mtime_ns, stat.st_size)
                digest.update(f"{name} {content}\n".encode())
            self._versions[module] = digest.hexdigest()
        return self._versions[module]

    def closure(self, module: str) -> list[str]:
        """The files that a module's behaviour rests on: sources of the modules it imports, data files beside them.

        The order is a part of the version: of the names of folders, then of files.
        """
        waiting = list(self._files(module))
        assert waiting, f"{module} is no module below {self._root}"
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._imported(name)
        for folder in {name.rpartition("/")[0] for name in found}:
            found.update(self._data_files(folder))
        return sorted(found, key=lambda name: name.split("/"))

    def _imported(self, name: str) -> tuple[str, ...]:
        """The files that importing what a file imports runs."""
        if name not in self._reached:
            stat = self._entry(name).stat()
            package = name.rpartition("/")[0].replace("/", ".")
            modules = _read_imports(str(self._root / name), package, stat.st_mtime_ns, stat.st_size)
            self._reached[name] = tuple(dict.fromkeys(file for module in modules for file in self._files(module)))
        return self._reached[name]

    def _files(self, module: str) -> Iterator[str]:
        """The file of a module and the `__init__.py` of each package above it; nothing where there is no such module.

        Of a module and a package of the same name the module counts.
        """
        parts = module.split(".")
        for file in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
            if self._is_file(file):
                yield file
                above = ("/".join([*parts[:end], "__init__.py"]) for end in range(1, len(parts)))
                yield from filter(self._is_file, above)
                return

    def _is_file(self, name: str) -> bool:
        folder, _, last = name.rpartition("/")
        entry = self._list(folder).get(last)
        return entry is not None and entry.is_file()

    def _entry(self, name: str) -> os.DirEntry[str]:
        folder, _, last = name.rpartition("/")
        return self._list(folder)[last]

    def _list(self, folder: str) -> dict[str, os.DirEntry[str]]:
        """What lies in a folder by name; nothing where there is no such folder."""
        if folder not in self._folders:
            above, _, last = folder.rpartition("/")
            entries: dict[str, os.DirEntry[str]] = {}
            if not folder or ((entry := self._list(above).get(last)) is not None and entry.is_dir()):
                with os.scandir(self._root / folder) as listed:
                    entries = {entry.name: entry for entry in listed}
            self._folders[folder] = entries
        return self._folders[folder]

    def _data_files(self, folder: str) -> Iterator[str]:
        """Data files of a package: in its folder and in sub-folders that are no packages themselves."""
        for last, entry in self._list(folder).items():
            name = f"{folder}/{last}"
            if entry.is_dir():
                if last != "__pycache__" and "__init__.py" not in self._list(name):
                    yield from self._data_files(name)
            elif entry.is_file() and Path(last).suffix in DATA_SUFFIXES and last not in NO_DATA:
                yield name


@cache
def _read_imports(path: str, package: str, _mtime: int, _size: int) -> tuple[str, ...]:
    """Names of ours that a file imports."""
    names = imported_names(Path(path).read_text(encoding="utf-8"), package)
    return tuple(name for name in names if name.split(".")[0] in PACKAGES)


@cache
def _file_digest(path: str, _mtime: int, _size: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
