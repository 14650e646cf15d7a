"""The small house under git and DVC, with a remote of its own."""

import shutil
from pathlib import Path

import pytest

from components.adapters.versioning import Git

CHECKOUT = Path(__file__).parents[3]
FILES = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore", "artifacts/.gitignore")


@pytest.fixture
def versioned(house, monkeypatch: pytest.MonkeyPatch):
    identity = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Test"), ("EMAIL", "test@example.invalid"))
    }
    house.environment |= {**identity, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for name, value in house.environment.items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)
    for name in FILES:
        (house.root / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, house.root / name)
    git = Git(house.root)
    git.run("init", "-q", "-b", "main")
    git.run("add", ".")
    git.run("commit", "-q", "-m", "the house")
    return house
