"""Doing it again, through the commands, in worktrees: the real KFP, the real DVC."""

import dataclasses
import json
from typing import Any

import pytest

from components.adapters.versioning import Git
from model.errors import UserError
from pipelines.versions.comparison import compare
from pipelines.versions.release import made_by_run
from pipelines.versions.reproduction import Failed, reproduce
from pipelines.versions.targets import find_target, load_result
from tests.pipelines.versions.conftest import commit, lingbot

pytestmark = pytest.mark.slow


def reproduced(house: Any) -> list[str]:
    """Names of the folders that reproductions left."""
    folder = house.home / "reproductions"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_an_experiment_comes_out_bitwise_equal(released) -> None:
    helper = released.root / "components/pack/helper.py"
    helper.write_text(helper.read_text().replace("{name}", "other code {name}"))  # not what is to run
    done = lingbot(released, "reproduce", "exp/first-v1", LINGBOT_STORAGE=str(released.home / "not to be used"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exp/first-v1 and the reproduction: bitwise equal" in done.stdout
    assert released.executed() == [
        "pretrain", "pretrain from 0", "finetune", "finetune from 0", "evaluate", "register", "promote",
    ]  # fmt: skip
    (name,) = reproduced(released)
    comparison = json.loads((released.home / "reproductions" / name / "comparison.json").read_text())
    assert comparison["outcome"] == "bitwise equal" and comparison["parameters"] == {}
    assert all(comparison["steps"].values())
    assert comparison["code"]["first"] == comparison["code"]["second"], "the release's commit has the same code"
    assert not (released.home / "not to be used").exists()
    assert Git(released.root).run("worktree", "list").count("\n") == 0


def test_data_is_made_again(released) -> None:
    done = lingbot(released, "reproduce", "data/first-v1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bitwise equal" in done.stdout
    assert released.executed() == ["collect", "validate", "annotate", "extract_depth_tokens", "pack"]


def test_other_bytes_are_told(released) -> None:
    """A step that depends on the machine: an environment variable stands for it."""
    target = find_target("data/first-v1")
    changed = {**target.result.digests, "annotate": "0" * 64}
    object.__setattr__(target.result, "digests", changed)
    comparison, _ = reproduce(target, lambda text: None)
    assert comparison["outcome"] == "different"
    assert [step for step, equal in comparison["steps"].items() if not equal] == ["annotate"]


def test_a_remote_without_the_data_leaves_nothing(released) -> None:
    done = lingbot(released, "reproduce", "exp/first-v1", "--remote", str(released.home / "empty"))
    assert done.returncode == 2 and "`dvc pull" in done.stderr
    assert reproduced(released) == [] and Git(released.root).run("worktree", "list").count("\n") == 0


def test_a_run_whose_code_was_never_committed(released) -> None:
    run = made_by_run("last")
    path = released.home / "runs" / str(run.run) / "run.json"
    record = json.loads(path.read_text())
    (released.root / "components/pack/helper.py").write_text("def text(name, parameters):\n    return 'other'\n")
    record["provenance"]["code"]["commit"] = commit(released, "other code")
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="made 'pack' with changes that were not committed"):
        reproduce(find_target("last"), lambda text: None)
    record["provenance"]["code"]["commit"] = None
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="in no commit here"):
        find_target("last")
    assert reproduced(released) == []


@pytest.mark.parametrize("lost", [None, "evaluate"])
def test_what_fails_after_the_steps_is_no_part_of_the_result(
    released, monkeypatch: pytest.MonkeyPatch, lost: str | None
) -> None:
    record = json.loads((released.home / "runs" / str(made_by_run("last").run) / "run.json").read_text())
    record["steps"] = [step for step in record["steps"] if step["name"] != lost]

    def run_and_fail(module: Any, place: Any, **_: Any) -> None:
        folder = place.home / "runs" / "again"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
        raise Failed("the endpoint did not answer", 1)

    monkeypatch.setattr("pipelines.versions.reproduction._call", run_and_fail)
    target = dataclasses.replace(find_target("exp/first-v1"), fetch=lambda tree, steps: None)
    monkeypatch.setattr("pipelines.versions.reproduction._prepare", lambda *given, **options: [])
    if lost:
        with pytest.raises(Failed, match="did not answer"):
            reproduce(target, lambda text: None)
    else:
        assert reproduce(target, lambda text: None)[0]["outcome"] == "bitwise equal"


def test_a_release_equals_its_run(released) -> None:
    comparison = compare(load_result("last"), load_result("exp/first-v1"))
    assert comparison["outcome"] == "bitwise equal" and comparison["not_in_both"] == ["promote", "register"]
    assert (
        comparison["environment"] == {}
        and comparison["parameters"] == {}
        and comparison["code"]["first"] == comparison["code"]["second"]
    )
