"""The rules of the house that a tool can check."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.cli import build_parser

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "components", "pipelines")
MAX_LINES = 400
# Absolute paths of a machine. Not `a/work/b`, which is a path of the state folder. Neither expression matches itself.
MACHINE_PATHS = re.compile(
    "|".join(rf"(?<![\w*}}.])/{name}/" for name in ("work", "root", "farm", "opt/(?:pypi|wheels)", "tmp/w"))
)
LEFT_OVERS = re.compile(
    "|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bX" + r"XX\b", r"getattr\((self\.)?config,", r"except:\s*$"]),
    re.MULTILINE,
)


def committed(*patterns: str) -> list[Path]:
    """Files that git knows or would add: what is ignored, or lies in a virtual environment, is not the project's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the list of the project's files comes from git")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture or a video


def test_no_path_of_a_machine() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in committed() if MACHINE_PATHS.search(text_of(path))}
    assert found == set()


def test_one_idea_a_file() -> None:
    sources = [path for package in PACKAGES for path in committed(f"{package}/*.py")]
    assert len(sources) > 50
    lengths = {path.relative_to(ROOT).as_posix(): len(text_of(path).splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_nothing_is_left_over() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in committed("*.py") if LEFT_OVERS.search(text_of(path))}
    assert found == set()


def test_imports_point_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 kept, 0 broken" in done.stdout, done.stdout + done.stderr


def commands_in(path: Path) -> list[str]:
    """Command lines of the fenced blocks of a Markdown file, without their comments."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text_of(path), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines if line.strip()]


def is_command(line: str) -> bool:
    try:
        build_parser().parse_args(shlex.split(line)[1:])
    except SystemExit:  # argparse has said why on stderr
        return False
    return True


def test_commands_of_the_documentation_exist() -> None:
    lines = [line for path in committed("*.md") for line in commands_in(path) if line.startswith("lingbot ")]
    assert len(lines) >= 10, "the README shows the three journeys"
    assert [line for line in lines if not is_command(line)] == []


def test_make_targets_of_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "lint", "soak", "clean"} <= targets
    for path in committed("*.md"):
        for line in commands_in(path):
            if line.startswith("make "):
                assert line.split()[1] in targets, f"{path.name}: {line}"


def test_ci_runs_the_readme_s_test_command_and_nothing_else() -> None:
    assert "make test" in commands_in(ROOT / "README.md")
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "exec make test"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert runs == [".ci/run"]


def test_every_dependency_is_pinned_exactly() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = whole["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s+]+", line) for line in lines), "exact versions from an index"
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for group in [project["dependencies"], *extras.values()] for text in group]
    for requirement in wanted:
        if requirement.name == project["name"]:
            assert requirement.extras == set(extras) - {"dev"}, "dev is all of them"
            continue
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned is not None and requirement.specifier.contains(pinned), f"{requirement} is pinned to {pinned}"
    assert whole["build-system"]["requires"] == [f"setuptools=={pins['setuptools']}"], "constraints do not hold there"


def test_telemetry_is_off() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("DVC_NO_ANALYTICS", "GX_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        assert f"export {name}" in makefile
