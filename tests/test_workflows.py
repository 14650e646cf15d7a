"""The workflows of the repository: they type what the command line takes, and nothing of others reaches a shell."""

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cli import build_parser

WORKFLOWS = sorted((Path(__file__).parents[1] / ".github/workflows").glob("*.yml"))
PIPELINE = next(path for path in WORKFLOWS if path.stem == "pipeline")


def read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_few_rights_and_an_end(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps(path) if "uses" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_expression_is_pasted_into_a_script(path: Path) -> None:
    """A tag may be called `data/$(rm -rf ~)-v1`."""
    for step in steps(path):
        assert "${{" not in step.get("run", "")
        outside = re.sub(r'"[^"]*"', "", step.get("run", ""))
        assert "$" not in outside, "a variable outside of quotes"


def test_what_is_typed_is_what_the_command_line_takes() -> None:
    commands = [step["run"] for step in steps(PIPELINE) if step.get("run", "").startswith("lingbot")]
    parsed = [build_parser().parse_args(shlex.split(command)[1:]) for command in commands]
    trigger, run = parsed
    assert (trigger.command, trigger.action, trigger.tag, trigger.wait) == ("trigger", "tag", "$TAG", True)
    assert (run.command, run.images, run.once) == ("run", Path("$IMAGES"), "$GITHUB_REPOSITORY/$GITHUB_RUN_ID")


def test_variables_of_the_scripts_are_given() -> None:
    (job,) = read(PIPELINE)["jobs"].values()
    for step in job["steps"]:
        used = {*re.findall(r"\$(\w+)", step.get("run", "")), *re.findall(r"env\.(\w+)", step.get("if", ""))}
        given = {*job["env"], *step.get("env", {})}
        assert {name for name in used - given if not name.startswith(("GITHUB_", "RUNNER_"))} == set()


def test_tags_of_data_start_it_and_others_do_not() -> None:
    (pattern,) = read(PIPELINE)[True]["push"]["tags"]  # YAML 1.1 reads `on` as true
    assert fnmatch("data/cubes-v12", pattern)
    assert not fnmatch("exp/cubes-v1", pattern) and not fnmatch("v1.0", pattern)
