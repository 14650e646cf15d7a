"""What a robot installs: three dependencies, an older Python, nothing of this project."""

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

CLIENT = Path(__file__).parents[4] / "components/endpoint/client"
SOURCES = sorted((CLIENT / "lingbot_client").glob("*.py"))


def project():
    return tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]


def imported(source):
    for node in ast.walk(ast.parse(source.read_text(), feature_version=(3, 10))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_it_imports_what_it_declares_and_nothing_else():
    declared = {re.split("[<>=]", text)[0] for text in project()["dependencies"]}
    assert declared == {"numpy", "msgpack", "websockets"}
    foreign = {name for source in SOURCES for name in imported(source)} - set(sys.stdlib_module_names)
    assert len(SOURCES) > 5 and foreign == declared | {"lingbot_client"}


def test_every_command_that_is_installed_is_there():
    whole = tomllib.loads((CLIENT.parents[2] / "pyproject.toml").read_text())["project"]
    commands = {**whole["scripts"], **project().get("scripts", {})}
    for module, _, name in (entry.partition(":") for entry in commands.values()):
        assert callable(getattr(importlib.import_module(module), name))


def test_the_project_ships_it_once():
    whole = tomllib.loads((CLIENT.parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert "components/endpoint/client" in whole["where"] and "lingbot_client*" in whole["include"]
    assert "components.endpoint.client*" in whole["exclude"], "else it would be there under a second name"
