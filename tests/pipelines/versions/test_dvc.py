"""dvc.yaml is the table of steps, and DVC runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.steps import maker
from pipelines.shape import dag_steps

ROOT = Path(__file__).parents[3]


def test_stages_are_the_steps_in_order() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    steps = dag_steps("collect")
    assert list(stages) == [step.name for step in steps]
    for step in steps:
        stage = stages[step.name]
        assert stage["cmd"] == f"python -m pipelines.cli step {step.name} --artifacts artifacts"
        assert stage["outs"] == [f"artifacts/{step.name}"]
        code = "/".join(step.module.split(".")[:-1])
        assert stage["deps"] == [*(f"artifacts/{maker(step, name)}" for name in step.inputs), code, "model"]
        assert (ROOT / code).is_dir()
        assert stage["params"] == ["seed", "preset", step.name, {"pipelines/presets.yaml": None}]


def test_parameters_of_every_stage_are_in_params_yaml() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {"seed", "preset", *(step.name for step in dag_steps("collect"))} <= values.keys()


def test_remote_is_verified_and_silent() -> None:
    config = (ROOT / ".dvc" / "config").read_text()
    assert "verify = true" in config and "analytics = false" in config


@pytest.mark.slow
def test_dvc_repro_runs_and_repeats_what_a_parameter_changes(versioned) -> None:
    house, repro = versioned, [sys.executable, "-m", "dvc", "repro", "pack"]
    environment = {**house.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(repro, cwd=house.root, env=environment, check=True, timeout=120)
    assert house.executed() == ["collect", "validate", "annotate", "pack"]
    assert (house.root / "artifacts/pack/data/result.txt").read_text().startswith("pack 2 x")
    params = house.root / "params.yaml"
    params.write_text(params.read_text().replace("annotate: {amount: 2", "annotate: {amount: 4"))
    subprocess.run(repro, cwd=house.root, env=environment, check=True, timeout=120)
    assert house.executed() == ["annotate", "pack"]
