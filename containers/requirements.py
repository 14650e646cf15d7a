"""What an image installs: `python containers/requirements.py ROLE` prints it, a requirement a line.

The versions are those of constraints.txt, the ranges those of pyproject.toml's extras. Only the standard library is
used: the script runs before anything is installed.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What goes into one image: whole extras of pyproject.toml, and single packages that one of its extras names (or,
    if none does, that constraints.txt pins)."""

    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


# Reading and writing packed frames, datasets and storage, without Great Expectations.
_FRAMES = ("pyarrow", "av", "pillow", "simplejpeg", "fsspec", "s3fs", "boto3", "scipy")
# Running a policy, without what only training it takes.
_POLICY = ("torch", "safetensors", "tokenizers")

ROLES = {
    "data": Contents(extras=("data",), packages=("kfp", "boto3", "jinja2")),
    "simulation": Contents(
        extras=("simulation",),
        packages=("kfp", *_FRAMES, *_POLICY, "matplotlib", "msgpack", "websockets"),
    ),
    # Everything, so that one image can run the whole pipeline by itself.
    "train": Contents(extras=("pipelines", "data", "train", "serve", "simulation", "k8s")),
    # mlflow-skinny is MLflow's client: with sqlalchemy it reads a server and a sqlite registry.
    "serve": Contents(extras=("serve",), packages=(*_POLICY, "pillow", "boto3", "mlflow-skinny", "sqlalchemy")),
    # The registry's server: rows in Postgres, small artefacts in S3.
    "mlflow": Contents(packages=("mlflow", "psycopg2-binary", "boto3")),
}


def requirements(role: str, root: Path = ROOT) -> list[str]:
    """The requirements of an image, sorted.

    Raises:
        KeyError: a package that neither pyproject.toml nor constraints.txt knows.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    by_name = dict(_pins(root)) | {_name(line): line for lines in extras.values() for line in lines}
    contents = ROLES[role]
    found = [*project["dependencies"], *(line for extra in contents.extras for line in extras[extra])]
    return sorted({*found, *(by_name[_canonical(package)] for package in contents.packages)})


def _pins(root: Path) -> Iterator[tuple[str, str]]:
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield _name(line), line


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, f"{requirement!r} is no requirement"
    return _canonical(found[0])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
