"""The main job as a user runs it, at the debug preset: the whole DAG, a second run, one changed byte, one parameter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fresh_clones import CHECKOUT, DATA, TRAINING, make_clone, make_origin, result, start

STEPS = [
    "collect", "validate", "annotate", "extract_depth_tokens", "pack", "pretrain", "finetune", "evaluate", "register",
    "promote",
]  # fmt: skip
pytestmark = pytest.mark.slow


def lingbot(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in the clone beside the state folder, or in this checkout where there is none."""
    clone = home.parent / "clone"
    root = clone if clone.exists() else CHECKOUT
    environment = {**os.environ, "LINGBOT_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=900)


def newest_run(home: Path) -> dict:
    newest = max((home / "runs").glob("*/run.json"), key=lambda path: path.parent.name)
    return json.loads(newest.read_text())


def steps(home: Path) -> dict[str, dict]:
    """The newest run's steps by name."""
    return {step["name"]: step for step in newest_run(home)["steps"]}


def executed(home: Path) -> list[str]:
    """The steps that the newest run did itself, in the DAG's order."""
    return [name for name in STEPS if steps(home)[name]["status"] == "done"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_origin(tmp_path_factory.mktemp("origin"))


@pytest.fixture(scope="module")
def home(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of the main job, run in a fresh clone."""
    folder = tmp_path_factory.mktemp("main_job")
    make_clone(origin, folder / "clone")
    home = folder / "home"
    finished = lingbot(home, "run", "--preset", "debug")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return home


def test_the_whole_dag_runs_and_reports(home: Path) -> None:
    assert executed(home) == STEPS
    assert steps(home)["pretrain"]["summary"]["depth_alignment"] == "on"
    assert steps(home)["promote"]["summary"]["promoted"] is False  # two trials are no evidence
    served = newest_run(home)["served"]
    assert served["horizon"] == 20 and served["bundle_digest"] == steps(home)["finetune"]["summary"]["bundle_digest"]
    report = next((home / "runs").glob("*/report.html")).read_text()
    assert "<img" in report and "http://" not in report.replace("http://www.w3.org", "")


def test_another_fresh_clone_makes_the_same_bytes(home: Path, origin: Path, tmp_path: Path) -> None:
    """Elsewhere, with empty state, in one process instead of KFP's: data, statistics, shards and weights are equal."""
    other_seed = ["preset=debug", "pretrain.seed=1"]
    wanted = [(["preset=debug"], (*DATA, *TRAINING)), (other_seed, (*DATA, "pretrain"))]
    made, other = result(start(make_clone(origin, tmp_path / "another place"), wanted))
    first = steps(home)
    assert {step: made[step]["digest"] for step in made} == {step: first[step]["digest"] for step in made}
    assert {"statistics.json", "frames-00000.bin"} <= set(made["pack"]["files"])
    assert "bundle/model.safetensors" in made["finetune"]["files"]
    assert [step for step in other if other[step]["digest"] != made[step]["digest"]] == ["pretrain"]
    weights = "model.safetensors"
    assert other["pretrain"]["files"][weights] != made["pretrain"]["files"][weights], "another seed, other weights"


def test_a_second_run_repeats_nothing(home: Path) -> None:
    finished = lingbot(home, "run", "--preset", "debug")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert executed(home) == []


def test_one_changed_byte_repeats_that_step_and_what_depends_on_it(home: Path) -> None:
    shard = next((home / "steps" / "pack").glob("*/data/frames-00000.bin"))
    changed = bytearray(shard.read_bytes())
    changed[len(changed) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(changed)
    finished = lingbot(home, "run", "--preset", "debug")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert executed(home) == ["pack", "pretrain", "finetune", "evaluate", "register", "promote"]
    assert "frames-00000.bin" in finished.stdout


def test_one_changed_parameter_repeats_what_depends_on_it(home: Path) -> None:
    finished = lingbot(home, "run", "--preset", "debug", "--set", "finetune.steps=11")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert executed(home) == ["finetune", "evaluate", "register", "promote"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "--set", "pretrain.stesp=3"), "Did you mean 'steps'"),
        (("run", "--dataset", "no/such/folder"), "no/such/folder"),
        (("rnu",), "run"),
    ],
)
def test_a_wrong_word_is_one_sentence_and_exit_2(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    finished = lingbot(tmp_path, *arguments)
    assert finished.returncode == 2
    assert sentence in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
