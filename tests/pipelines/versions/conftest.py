"""The small house under git and DVC, with a remote of its own; and the same after a finished run and its releases."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components import state
from components.adapters.versioning import Git
from tests.pipelines.conftest import House
from tests.registry_house import registry_template  # noqa: F401

CHECKOUT = Path(__file__).parents[3]
FILES = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore", "artifacts/.gitignore")
IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Test"), ("EMAIL", "test@example.invalid"))
} | {"GIT_CONFIG_GLOBAL": "/dev/null"}


def make_versioned(root: Path) -> House:
    house = House(root)
    house.environment |= IDENTITY
    for name in FILES:
        (house.root / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, house.root / name)
    return house


def lingbot(house: House, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in the house, which may take its time: it starts git, DVC and KFP."""
    return subprocess.run(
        house.command(*arguments),
        cwd=house.root,
        env={**house.environment, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


def enter(house: House, patch: pytest.MonkeyPatch) -> None:
    """This process works in the house's checkout, state folder and git identity."""
    patch.setattr(state, "checkout", lambda: house.root)
    for name in ("LINGBOT_HOME", *IDENTITY):
        patch.setenv(name, house.environment[name])
    for name in ("LINGBOT_STORAGE", "LINGBOT_RUN_ID"):
        patch.delenv(name, raising=False)


def commit(house: House, message: str) -> str:
    return Git(house.root).commit_all(message, ["."])


@pytest.fixture
def versioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    house = make_versioned(tmp_path)
    enter(house, monkeypatch)
    Git(house.root).run("init", "-q", "-b", "main")
    Git(house.root).run("add", ".")
    commit(house, "the house")
    return house


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(the house, the id of its run, its experiment); made once a process, not to be changed."""
    from pipelines.history import read_run
    from pipelines.versions.release import record_experiment

    with pytest.MonkeyPatch.context() as patch:
        house = make_versioned(tmp_path_factory.mktemp("finished"))
        enter(house, patch)
        Git(house.root).run("init", "-q", "-b", "main")
        Git(house.root).run("add", ".")
        commit(house, "the house")
        done = lingbot(house, "run", "--set", "pack.amount=5")
        assert done.returncode == 0, done.stdout + done.stderr
        experiment = record_experiment("last", "first")
        return house, read_run("last")["id"], experiment


@pytest.fixture
def finished(finished_once: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`finished_once`, with this process in its checkout and state folder."""
    enter(finished_once[0], monkeypatch)
    return finished_once


@pytest.fixture
def released(finished_once: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A copy of the finished house that a test may break."""
    house, _, _ = finished_once
    copy = House.__new__(House)
    copy.root, copy.home, copy.log = tmp_path / "house", tmp_path / "home", tmp_path / "executed"
    copy.environment = house.environment | {
        "LINGBOT_HOME": str(copy.home),
        "HOUSE_LOG": str(copy.log),
        "PYTHONPATH": str(copy.root),
    }
    shutil.copytree(house.root, copy.root)
    shutil.copytree(house.home, copy.home, symlinks=True)
    monkeypatch.setenv("HOUSE_LOG", str(copy.log))
    enter(copy, monkeypatch)
    return copy


@pytest.fixture
def registry(released: House, registry_template: Path) -> None:  # noqa: F811
    """An empty registry in the released house, its tables made."""
    shutil.copy(registry_template, released.home)
