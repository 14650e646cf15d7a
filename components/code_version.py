"""The version of a step's code: a digest of the files that it can reach by imports, and of no others.

A change in the endpoint must not train again; a change in the dataset reader must validate again. So the version is
the sha256 over the source of every module of `model` and `components` that the step imports, directly or not, at the
top of a file or inside a function, and over the data files (YAML, JSON, XML) that lie beside those modules. Modules
imported by a computed name are not seen: a step imports by name. Libraries are not part of it: they are pinned, and
each run records their versions.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from components import state

PACKAGES = ("components", "model")
DATA_SUFFIXES = {".yaml", ".yml", ".json", ".xml"}
# Descriptions for people and catalogues: no step reads them.
NO_DATA = {"metadata.yaml"}


def code_version(module: str, root: Path | None = None) -> str:
    """The sha256 (hex) of a module's import closure below `root`, the checkout by default."""
    root = root or state.checkout()
    digest = hashlib.sha256()
    for path in closure(module, root):
        digest.update(f"{path.relative_to(root).as_posix()} {_content_digest(path)}\n".encode())
    return digest.hexdigest()


def closure(module: str, root: Path) -> list[Path]:
    """The files that a module's behaviour rests on: sources of the modules it imports, and data files beside them."""
    start = _module_file(module, root)
    assert start is not None, f"{module} is no module below {root}"
    found: dict[Path, None] = {}
    waiting = [start, *_parents(module, root)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in _imports(path, root):
            target = _module_file(name, root)
            if target is not None:
                waiting += [target, *_parents(name, root)]
    for folder in {path.parent for path in found}:
        found.update(dict.fromkeys(_data_files(folder)))
    return sorted(found)


def _module_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for candidate in (base.with_name(base.name + ".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _parents(name: str, root: Path) -> Iterator[Path]:
    """The `__init__.py` of each package above a module: importing it runs them."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        init = root.joinpath(*parts[:end], "__init__.py")
        if init.is_file():
            yield init


def _imports(path: Path, root: Path) -> list[str]:
    stat = path.stat()
    package = ".".join(path.relative_to(root).parent.parts)
    return _read_imports(path, package, stat.st_mtime_ns, stat.st_size)


@cache
def _read_imports(path: Path, package: str, _mtime: int, _size: int) -> list[str]:
    """Names that may be modules of ours: `from a.b import c` gives both a.b and a.b.c."""
    names: list[str] = []
    for node in _statements(ast.parse(path.read_bytes(), filename=str(path)).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] in PACKAGES]


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement, in whatever block. Expressions hold no import, and walking them takes five times as long."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(statement, field, ())
            if isinstance(children, list):
                yield from _statements(children)


def _data_files(folder: Path) -> Iterator[Path]:
    """Data files of a package: in its folder and in sub-folders that are no packages themselves."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _data_files(path)
        elif path.is_file() and path.suffix in DATA_SUFFIXES and path.name not in NO_DATA:
            yield path


def _content_digest(path: Path) -> str:
    stat = path.stat()
    return _file_digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _file_digest(path: Path, _mtime: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
