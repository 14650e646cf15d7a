"""Parts of a reproduction: the evaluation alone, a registered version, and the place that commands run in."""

import dataclasses
import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

import pipelines.versions.reproduction
from components.adapters.versioning import Git
from model.errors import UserError
from pipelines.cli import main
from pipelines.versions.release import made_by_run
from pipelines.versions.reproduction import remove_abandoned, reproduce
from pipelines.versions.targets import Target, find_target, load_result
from tests.pipelines.versions.conftest import lingbot

pytestmark = pytest.mark.slow


def left(house: Any) -> list[str]:
    """What reproductions left: folders, and worktrees that git knows."""
    folder = house.home / "reproductions"
    worktrees = Git(house.root).run("worktree", "list").splitlines()[1:]
    return [*(path.name for path in folder.glob("*")), *worktrees]


def test_the_evaluation_alone_is_made_again(released) -> None:
    released.executed()
    done = lingbot(released, "reproduce", "exp/first-v1", "--only", "evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert released.executed() == ["evaluate"]
    assert "fetched, every byte as it was recorded: finetune, pack" in done.stdout
    (path,) = (released.home / "reproductions").glob("*/comparison.json")
    comparison = json.loads(path.read_text())
    assert comparison["remade"] == ["evaluate"] and comparison["steps"] == {"evaluate": True}
    assert comparison["not_in_both"] == [] and comparison["environment"] == {}


def test_an_evaluation_of_a_data_release_is_refused(released) -> None:
    with pytest.raises(UserError, match="data/first-v1 has no finished 'evaluate' to make again"):
        reproduce(find_target("data/first-v1"), lambda text: None, only="evaluate")


@pytest.fixture
def registered(released, registry) -> str:
    """A version of the house's run in its registry."""
    from components.adapters import tracking
    from components.provenance_files import keep_beside_bundle, read_for_run

    made = made_by_run("last")
    record = read_for_run(made.run or "")
    assert record is not None
    tags = {f"step.{step}": artifact.fingerprint for step, artifact in made.artifacts.items()}
    tags["provenance_digest"] = keep_beside_bundle("b" * 64, record)
    tracking.register_version("lingbot-vla-house", uri="nowhere", digest="b" * 64, tags=tags)
    return made.run or ""


def test_a_version_is_made_again_where_its_run_is_not_known(released, registered: str) -> None:
    shutil.rmtree(released.home / "runs")
    released.executed()
    done = lingbot(released, "reproduce", "lingbot-vla-house/1", "--only", "evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert released.executed() == ["evaluate"]
    assert "lingbot-vla-house/1 and the reproduction: bitwise equal" in done.stdout


def test_an_experiment_leads_to_the_version_that_it_made_alone(released, registered: str, capsys) -> None:
    from components.adapters import tracking

    released_data = load_result("exp/first-v1").digests["collect"]
    tracking.register_version(
        "lingbot-vla-house", uri="nowhere", digest="c" * 64, tags={"dataset_digest": released_data}
    )
    for reference, versions in (("exp/first-v1", ["1"]), ("data/first-v1", ["2"])):
        assert main(["models", "lineage", reference, "--json"]) == 0
        assert [one["version"]["version"] for one in json.loads(capsys.readouterr().out)] == versions


def test_a_version_is_its_run_where_that_is_known(released, registered: str) -> None:
    here, run = find_target("1"), find_target(registered)
    assert here.result == dataclasses.replace(run.result, name="lingbot-vla-house/1")
    assert here.parameters == run.parameters and here.whole
    with pytest.raises(UserError, match=r"unknown version of lingbot-vla-house '7'"):
        find_target("lingbot-vla-house/7")


def test_what_is_nothing_of_all_that_is_told_what_there_could_be(released, registry) -> None:
    from components.adapters import tracking

    for registered, said in (
        ((), "no model is registered in sqlite"),
        (("lingbot-vla-b", "lingbot-vla-a"), "write MODEL/frist with one of lingbot-vla-a, lingbot-vla-b$"),
    ):
        for model in registered:
            tracking.register_version(model, uri="nowhere", digest="c" * 64, tags={})
        with pytest.raises(UserError, match=rf"'frist' is no tag \(data/NAME-vN, exp/NAME-vN\) and no run .*{said}"):
            find_target("frist")


def test_a_version_without_provenance_is_refused(released, registry) -> None:
    from components.adapters import tracking

    tracking.register_version("lingbot-vla-house", uri="nowhere", digest="c" * 64, tags={})
    with pytest.raises(UserError, match="lingbot-vla-house/1 was registered before provenance was kept"):
        load_result("1")


def test_artefacts_that_are_nowhere_are_named(released, registered: str) -> None:
    shutil.rmtree(released.home / "runs")
    shutil.rmtree(released.home / "steps" / "finetune")
    Git(released.root).run("tag", "-d", "exp/first-v1")
    with pytest.raises(UserError, match=r"artefact of 'finetune' of lingbot-vla-house/1 is neither here nor in"):
        reproduce(find_target("1"), lambda text: None, only="evaluate")
    assert left(released) == []


@pytest.fixture
def quick(released) -> Target:
    """The house's experiment, whose artefacts are copied instead of pulled."""
    return find_target(made_by_run("last").run or "")


def test_other_packages_are_told_before_and_after(quick: Target) -> None:
    packages = {**quick.result.environment["packages"], "numpy": "0.1"}
    changed = dataclasses.replace(quick.result, environment={**quick.result.environment, "packages": packages})
    said: list[str] = []
    comparison, _ = reproduce(dataclasses.replace(quick, result=changed), said.append, only="evaluate")
    assert any("other packages than recorded: numpy 0.1 -> " in line for line in said)
    assert comparison["environment"]["packages.numpy"][0] == "0.1" and comparison["outcome"] == "bitwise equal"


def test_code_of_another_folder_is_refused(quick: Target, released, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipelines.versions.reproduction._environment

    def elsewhere(*given: Any) -> dict[str, str]:
        return {**real(*given), "PYTHONSAFEPATH": "1", "PYTHONPATH": str(released.root)}

    monkeypatch.setattr(pipelines.versions.reproduction, "_environment", elsewhere)
    with pytest.raises(UserError, match="would not be what runs: .*house.* is imported instead of"):
        reproduce(quick, lambda text: None, only="evaluate")
    assert left(released) == []


def test_what_surrounds_the_command_does_not_reach_the_reproduction(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LINGBOT_STORAGE", "LINGBOT_API_KEYS_FILE", "MLFLOW_TRACKING_URI", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("AWS_PROFILE", "kept")
    given = pipelines.versions.reproduction._environment(Path("tree"), Path("home"), 3)
    assert "elsewhere" not in given.values() and given["AWS_PROFILE"] == "kept"
    assert (given["PYTHONPATH"], given["LINGBOT_HOME"], given["OMP_NUM_THREADS"]) == ("tree", "home", "3")


def test_a_fresh_environment_is_what_the_commit_installs(
    quick: Target, released, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit's own script makes it; here one that leads to this interpreter and leaves a trace of each use."""
    script = released.root / ".ci" / "bootstrap.sh"
    script.parent.mkdir()
    used = released.home / "used"
    interpreter = f'#!/bin/sh\\necho "$*" >> {used}\\nexec {sys.executable} "$@"\\n'
    script.write_text(
        f"#!/bin/sh\nmkdir -p .venv/bin\nprintf '{interpreter}' > .venv/bin/python\nchmod +x .venv/bin/python\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    commit = Git(released.root).commit_all("a way to install", [".ci"])
    target = dataclasses.replace(quick, commit=commit)
    comparison, _ = reproduce(target, lambda text: None, only="evaluate", fresh_environment=True)
    assert comparison["outcome"] == "bitwise equal"
    assert "-m pipelines.cli step evaluate" in used.read_text()
    with pytest.raises(UserError, match=r"bootstrap.sh is not in that commit"):
        reproduce(quick, lambda text: None, only="evaluate", fresh_environment=True)
    assert len(left(released)) == 1


def test_an_interrupted_fetch_leaves_nothing(quick: Target, released) -> None:
    def interrupted(tree: Path, steps: Any) -> None:
        (tree / "artifacts" / "finetune").mkdir()
        (tree / "artifacts" / "finetune" / "half").write_text("a file")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(dataclasses.replace(quick, fetch=interrupted), lambda text: None)
    assert left(released) == []


def test_what_a_killed_reproduction_left_is_removed(released) -> None:
    git, folder = Git(released.root), released.home / "reproductions" / "killed"
    git.add_worktree("HEAD", folder / "tree")
    (folder / "tree" / "artifacts" / "half").write_text("a file")
    (folder / "alive").touch()
    other = released.home / "reproductions" / "going on"
    with pipelines.versions.reproduction._held(other):
        git.add_worktree("HEAD", other / "tree")
        remove_abandoned()
        assert (other / "tree").exists() and not folder.exists()
    remove_abandoned()
    assert left(released) == []


def test_a_dirty_run_is_marked_and_made_again_with_its_changes(released) -> None:
    helper = released.root / "components/evaluate/helper.py"
    helper.write_text(helper.read_text() + "\nCHANGED = 1\n")
    refused = lingbot(released, "run", "--record", "dirty")
    assert refused.returncode == 2 and "components/evaluate/helper.py is changed and 'evaluate' rests" in refused.stderr
    done = lingbot(released, "run", "--set", "pack.amount=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the run is marked dirty" in done.stdout
    assert lingbot(released, "runs", "list").stdout.splitlines()[0].endswith("dirty")
    released.executed()
    again = lingbot(released, "reproduce", "last", "--only", "evaluate")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "and its changes that are in no commit" in again.stdout and released.executed() == ["evaluate"]


def test_a_checkpoint_from_another_dataset_is_refused(released) -> None:
    from components import records

    artifact = made_by_run("last").artifacts["pretrain"]
    source = dataclasses.replace(artifact.inputs["packed"], digest="0" * 64)
    other = dataclasses.replace(artifact, inputs={**artifact.inputs, "packed": source})
    records.manifest_path("pretrain", artifact.fingerprint).write_bytes(other.to_bytes())
    with pytest.raises(UserError, match="'pretrain' was made from another packed: it read pack 000000000000"):
        find_target("last")
