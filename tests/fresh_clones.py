"""Fresh clones of the code as it stands, and what is made in them, for tests of equal bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
DATA = ("collect", "validate", "annotate", "extract_depth_tokens", "pack")
TRAINING = ("pretrain", "finetune")
# The steps of the data and the training in one process: what `lingbot step` executes, with the imports paid once.
MAKE = """
import json, sys
from components.execution import execute
from components.steps import maker
from pipelines.parameters import load_parameters
from pipelines.shape import dag_steps

made = []
for settings, steps in json.loads(sys.argv[1]):
    parameters, artifacts = load_parameters(settings=settings), {}
    for step in dag_steps("collect"):
        if step.name in steps:
            inputs = {name: artifacts[maker(step, name)] for name in step.inputs}
            artifacts[step.name] = execute(step, inputs, parameters.steps[step.name])
    made.append({
        step: {"digest": artifact.digest, "files": {path: record.sha256 for path, record in artifact.files.items()}}
        for step, artifact in artifacts.items()
    })
print("RESULT" + json.dumps(made))
"""
_IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Test"), ("EMAIL", "test@example.invalid"))
} | {"GIT_CONFIG_GLOBAL": "/dev/null"}
Made = dict[str, dict[str, Any]]


def make_origin(root: Path) -> Path:
    """A repository with one commit of the code as it stands here, committed or not."""
    for package in ("model", "components", "pipelines"):
        shutil.copytree(CHECKOUT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", ".gitignore"):
        shutil.copy(CHECKOUT / name, root)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "the code"]):
        subprocess.run(["git", *command], cwd=root, env={**os.environ, **_IDENTITY}, check=True)
    return root


def make_clone(origin: Path, place: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(origin), str(place)], check=True)
    return place


def start(clone: Path, wanted: list[tuple[list[str], tuple[str, ...]]]) -> subprocess.Popen[str]:
    """Makes (settings, steps) after (settings, steps) in a clone, in a state folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LINGBOT_", "PYTHON"))}
    environment = {
        **kept, "PYTHONPATH": str(clone), "LINGBOT_HOME": str(clone / "state"), "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "2", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", MAKE, json.dumps(wanted)]
    return subprocess.Popen(
        command, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process: subprocess.Popen[str]) -> list[Made]:
    """What `start` made, one entry of each of its wishes."""
    said, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    made: list[Made] = json.loads(said.rpartition("RESULT")[2])
    return made
