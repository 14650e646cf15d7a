"""The quick search for import statements finds what Python's parser finds."""

import ast
from collections.abc import Iterable, Iterator

import pytest

from components import state
from components.code_version import PACKAGES
from components.import_statements import imported_names


def parsed_names(source: str, package: str) -> list[str]:
    """The slow twin."""
    found: list[str] = []
    for node in statements(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """In whatever block. Expressions hold no import, and walking them takes five times as long."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(statement, field, ())
            if isinstance(children, list):
                yield from statements(children)


@pytest.mark.parametrize("folder", PACKAGES)
def test_in_every_file_of_the_project_it_finds_what_the_parser_finds(folder: str) -> None:
    root, seen = state.checkout(), 0
    for path in sorted((root / folder).rglob("*.py")):
        package = ".".join(path.relative_to(root).parent.parts)
        source = path.read_text(encoding="utf-8")
        found = imported_names(source, package)
        assert set(found) == set(parsed_names(source, package)), path
        seen += len(found)
    assert seen > 300


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b as c, d\n", ["a.b", "d"]),
        ("from a import b as c, d\n", ["a", "a.b", "a.d"]),
        ("from a import (  # why (so)\n    b,\n    # c,\n    d as e,\n)\n", ["a", "a.b", "a.d"]),
        ("from a \\\n  import b, \\\n  c\n", ["a", "a.b", "a.c"]),
        ("from . import x\nfrom.y import z\nfrom .. import v\n", ["p.q", "p.q.x", "p.q.y", "p.q.y.z", "p", "p.v"]),
        ("from a.re_import import b\nimport_a = 1\n", ["a.re_import", "a.re_import.b"]),
        ("def f():\n    import a; import b\n    if f: from c import d\n", ["a", "b", "c", "c.d"]),
        ("def f():\n    yield from g()\n    raise E from g\nimport a\n", ["a"]),
        ('"""\nimport a\n"""\nx = r\'\\\'; import b\' # import c\ny = "#"; import d\n', ["d"]),
        ("x = '''a'\"import b\\''''\nimport c", ["c"]),
        ("from a import *\n", ["a", "a.*"]),
    ],
)
def test_names_are_found_where_statements_are_and_nowhere_else(source: str, names: list[str]) -> None:
    assert imported_names(source, "p.q") == names
    assert set(parsed_names(source, "p.q")) == set(names)
