"""dvc.yaml is the table of steps, and DVC runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.adapters.versioning import Git
from components.provenance import provenance
from components.steps import maker
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile
from pipelines.shape import dag_steps
from pipelines.versions.figures import PLOTS_OF, figure_files
from tests.pipelines.conftest import House

ROOT = Path(__file__).parents[3]


def test_stages_are_the_steps_in_order() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    steps = dag_steps("collect")
    assert list(stages) == [step.name for step in steps]
    for step in steps:
        stage = stages[step.name]
        assert stage["cmd"] == f"python -m pipelines.cli step {step.name} --artifacts artifacts"
        code = "/".join(step.module.split(".")[:-1])
        assert stage["deps"] == [*(f"artifacts/{maker(step, name)}" for name in step.inputs), code, "model"]
        assert (ROOT / code).is_dir()
        assert stage["params"] == ["seed", "preset", step.name, {"pipelines/presets.yaml": None}]


def test_metrics_and_plots_are_those_that_the_command_writes() -> None:
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for step, stage in described["stages"].items():
        small = [*stage.get("metrics", []), *(out for out in stage["outs"] if isinstance(out, dict))]
        assert all(settings == {"cache": False} for out in small for settings in out.values()), "git keeps them"
        assert {path for out in small for path in out} == set(figure_files(step))
        assert [out for out in stage["outs"] if isinstance(out, str)] == [f"artifacts/{step}"]
    drawn = {path for plot in described["plots"] for path in plot}
    assert drawn == {f"plots/{name}" for names in PLOTS_OF.values() for name in names}


def test_both_dags_are_the_same(tmp_path: Path) -> None:
    """dvc.yaml against the compiled KFP pipeline: steps, what each waits for, and every parameter with its value."""
    path = compile_pipeline(load_parameters(), load_profile("laptop"), tmp_path)
    root = next(iter(yaml.safe_load_all(path.read_text())))["root"]
    kfp = {name.replace("-", "_"): task for name, task in root["dag"]["tasks"].items()}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(kfp) == set(stages)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    before: set[str] = set()
    for name, stage in stages.items():
        reads = {dep.removeprefix("artifacts/") for dep in stage["deps"] if dep.startswith("artifacts/")}
        assert reads == {task.replace("-", "_") for task in kfp[name].get("dependentTasks", [])}
        assert reads <= before, "a stage comes after what it reads"
        before.add(name)
        given = root["inputDefinitions"]["parameters"][f"{name}_parameters"]["defaultValue"]
        assert values[name] == {key: value for key, value in given.items() if key != "seed"}


def test_parameters_of_every_stage_are_in_params_yaml() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {"seed", "preset", *(step.name for step in dag_steps("collect"))} <= values.keys()


def test_remote_is_verified_and_silent() -> None:
    config = (ROOT / ".dvc" / "config").read_text()
    assert "verify = true" in config and "analytics = false" in config


def dvc(house: House, *arguments: str) -> str:
    environment = {**house.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=house.root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def keep(house: House, message: str) -> None:
    """Commits what git does not ignore."""
    Git(house.root).run("add", "--all")
    Git(house.root).run("commit", "-q", "-m", message)


@pytest.mark.slow
def test_dvc_does_what_people_expect(versioned: House) -> None:
    """repro repeats what a parameter changes, and the diffs between commits, workspace and experiments show it."""
    house = versioned
    dvc(house, "repro", "finetune")
    assert house.executed() == [
        "collect", "validate", "annotate", "extract_depth_tokens", "pack",
        "pretrain", "pretrain from 0", "finetune", "finetune from 0",
    ]  # fmt: skip
    assert (house.root / "artifacts/pack/data/result.txt").read_text().startswith("pack 2 x")
    assert provenance({})["code"]["dirty"] is None, "results make no run dirty"
    keep(house, "results")

    params = house.root / "params.yaml"
    params.write_text(params.read_text().replace("finetune: {amount: 2", "finetune: {amount: 4"))
    dvc(house, "repro", "finetune")
    assert house.executed() == ["finetune", "finetune from 0"]
    changed = json.loads(dvc(house, "params", "diff", "--json"))
    assert changed["params.yaml"]["finetune.amount"] == {"old": 2, "new": 4, "diff": 2}
    assert json.loads(dvc(house, "metrics", "diff", "--json", "--all"))["metrics/pretrain.json"]["steps"]["diff"] == 0
    drawn = dvc(house, "plots", "diff", "HEAD", "--json", "--targets", "plots/finetune.csv")
    assert all(word in drawn for word in ("plots/finetune.csv", "HEAD", "workspace"))
    keep(house, "more steps")

    dvc(house, "exp", "run", "-n", "longer", "-S", "finetune.amount=6", "finetune")
    assert house.executed() == ["finetune", "finetune from 0"]
    rows = (house.root / "plots/finetune.csv").read_text().splitlines()
    assert rows[0] == "step,total,action" and len(rows) == 7
    against = json.loads(dvc(house, "params", "diff", "HEAD", "longer", "--json"))
    assert against["params.yaml"]["finetune.amount"] == {"old": 4, "new": 6, "diff": 2}


@pytest.mark.slow
def test_a_release_s_figures_are_in_git(finished) -> None:
    house, _, experiment = finished
    shown = json.loads(dvc(house, "metrics", "diff", "main", experiment.commit, "--json", "--all"))
    assert shown["metrics/evaluate.json"]["closed_loop.policy.sr"]["new"] == 0.82
    assert "samples_per_second" not in json.dumps(shown), "how fast a machine was is no figure of a result"
    assert Git(house.root).file_at(experiment.commit, "plots/open_loop.csv") == b"steps,error\n1,0.0123\n20,0.0456\n"
