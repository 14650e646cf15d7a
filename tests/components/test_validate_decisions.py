"""A reviewer's decisions are respected and reported; thresholds, reference and held-out data do what they say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from components.validate.decisions import apply_decisions, read_decisions
from components.validate.findings import Finding
from components.validate.rulebook import episode_rules
from components.validate.step import Parameters, run, validate
from components.validate.thresholds import FOLDER, load_thresholds
from model.data.quarantine import read_quarantine
from model.errors import UserError
from model.progress import Silent
from model.robots import robot_ids
from tests.components.validate_faults import HIGH, Made, make_episode, write

BLACK, COPY = 1, 5  # the episodes with a fault, of six


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    episodes: list[Made] = [make_episode(4, number) for number in range(5)]
    images = episodes[BLACK].images[HIGH].copy()
    images[30] = 0
    episodes[BLACK].images[HIGH] = images
    return write(tmp_path_factory.mktemp("decided") / "set", [*episodes, episodes[0]])


@pytest.fixture
def check(dataset: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(root: Path = dataset, **parameters: Any) -> dict[str, Any]:
        (tmp_path / "out").mkdir(exist_ok=True)
        return validate(root, tmp_path / "out", Parameters(**parameters), Silent())

    return call


def decide(tmp_path: Path, **entry: Any) -> str:
    whole = {"episode": BLACK, "rule": "black", "decision": "keep", "reviewer": "kim", "reason": "the lamp failed"}
    path = tmp_path / "decisions.yaml"
    path.write_text(yaml.safe_dump([whole | entry]))
    return str(path)


def rules(verdict: dict[str, Any]) -> list[tuple[int | None, str, str]]:
    return [(found["episode"], found["rule"], found["severity"]) for found in verdict["findings"]]


def test_without_decisions_the_rules_decide_and_show_a_picture(check: Any, dataset: Path, tmp_path: Path) -> None:
    verdict = check(reference=str(dataset))  # like itself, so nothing drifts
    assert rules(verdict) == [(BLACK, "black", "error"), (COPY, "duplicate_episode", "error")]
    (black, copy) = yaml.safe_load((tmp_path / "out/quarantine.yaml").read_text())
    assert (black["picture"], "picture" in copy) == ("pictures/black_000001.png", False)
    assert (tmp_path / "out" / black["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "../pictures/black_000001.png" in (tmp_path / "out/data_docs/index.html").read_text()


def test_keep_leaves_the_episode_in_and_the_finding_told(check: Any, tmp_path: Path) -> None:
    verdict = check(decisions=decide(tmp_path))
    assert (BLACK, "black", "warning") in rules(verdict)
    assert read_quarantine(tmp_path / "out") == {COPY}
    assert verdict["decisions"][0]["outcome"] == "respected"
    assert "the lamp failed" in (tmp_path / "out/data_docs/index.html").read_text()


def test_drop_takes_out_what_no_rule_found(check: Any, tmp_path: Path) -> None:
    verdict = check(decisions=decide(tmp_path, episode=3, rule="wrong_object", decision="drop"))
    assert (3, "wrong_object", "error") in rules(verdict)
    assert read_quarantine(tmp_path / "out") == {BLACK, 3, COPY}


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ({"decision": "fixed"}, "still found"),
        ({"decision": "fixed", "episode": 2}, "respected"),
        ({"decision": "keep", "episode": 2}, "nothing to decide"),
        ({"decision": "drop", "episode": 99}, "nothing to decide"),
    ],
)
def test_a_decision_that_does_not_fit_the_data_is_told(entry: dict[str, Any], outcome: str, tmp_path: Path) -> None:
    black = Finding(rule="black", severity="error", episode=BLACK, message="black", evidence={})
    decisions = read_decisions(Path(decide(tmp_path, **entry)), ["black"])
    findings, (report,) = apply_decisions([black], decisions, range(6))
    assert report["outcome"] == outcome
    assert [found.rule for found in findings if found.episode is None] == ["decision_outdated"] * (
        outcome != "respected"
    )
    assert [found.severity for found in findings if found.episode == BLACK] == ["error"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"decision": "kepe"}, "unknown decision in .* 'kepe'.*Did you mean 'keep'"),
        ({"rule": "blakc"}, "unknown rule in .* 'blakc'.*Did you mean 'black'"),
        ({"episode": "1"}, "entry 1: episode is '1'. It must be the number of an episode"),
        ({"reason": ""}, "entry 1: reason is ''"),
        ({"when": "today"}, "It needs episode, rule, decision, reviewer, reason, and nothing else"),
    ],
)
def test_a_wrong_decision_is_refused(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_decisions(Path(decide(tmp_path, **entry)), ["black", "frozen"])


def test_own_thresholds_replace_those_of_the_robot(check: Any, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("black_level: {value: 0, source: a night shift}\n")
    verdict = check(thresholds=str(tmp_path / "own.yaml"))
    assert verdict["thresholds"]["black_level"] == {"value": 0.0, "source": "a night shift"}
    assert (BLACK, "flat", "error") in rules(verdict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blakc_level: {value: 1, source: x}", "unknown threshold in .* 'blakc_level'.*Did you mean 'black_level'"),
        ("black_level: 3", "'black_level' is 3. Write black_level: {value: 1.0, source"),
        ("black_level: {value: -1, source: x}", "value of 'black_level' is -1. It must be a number, zero or more"),
        ("black_level: {value: 1, source: ''}", "'black_level' has no source"),
    ],
)
def test_a_wrong_threshold_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_thresholds("aloha_sim", tmp_path / "own.yaml")


def test_each_file_of_thresholds_is_of_a_robot() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} - {"default"} <= set(robot_ids())
    for robot in robot_ids():
        load_thresholds(robot)


def test_an_unverified_threshold_only_warns(check: Any, tmp_path: Path) -> None:
    root = write(tmp_path / "fast", [_jump(number) for number in range(1)])
    assert rules(check(root)) == [(0, "action_velocity", "warning")]
    (tmp_path / "own.yaml").write_text("action_velocity: {value: 6, source: the maker's sheet}\n")
    known = load_thresholds("aloha_sim", tmp_path / "own.yaml")
    judged = episode_rules(known, spacing_tolerance=0.1, drift_tolerance=0.01, velocity_verified=False)
    assert [rule.severity for rule in judged if rule.name == "action_velocity"] == ["error"]


def _jump(number: int) -> Made:
    made = make_episode(4, number)
    made.action[40:, 0] += 0.7
    return made


def test_statistics_are_held_against_a_reference(check: Any, dataset: Path, tmp_path: Path) -> None:
    stats = json.loads((dataset / "meta/stats.json").read_text())
    stats["action"]["mean"][2] += 20 * stats["action"]["std"][2]
    (tmp_path / "stats.json").write_text(json.dumps(stats))
    found = rules(check(reference=str(tmp_path / "stats.json")))
    assert [rule for _, rule, _ in found if "drift" in rule] == ["statistics_drift", "reference_drift"]


def test_declared_statistics_must_be_those_of_the_frames(check: Any, dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    stats = json.loads((root / "meta/stats.json").read_text())
    stats["observation.state"]["std"] = (1.1 * np.array(stats["observation.state"]["std"])).tolist()
    (root / "meta/stats.json").write_text(json.dumps(stats))
    assert (None, "statistics_declared", "warning") in rules(check(root))


def test_what_is_held_out_must_not_be_there(check: Any, dataset: Path, tmp_path: Path) -> None:
    held = write(tmp_path / "held", [make_episode(4, 2), make_episode(5, 0)])
    assert (2, "holdout_leakage", "error") in rules(check(holdout=str(held)))


def test_splits_that_share_episodes_or_copies_are_told(check: Any, dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"splits": {"train": "0:4", "test": "3:6"}}))
    found = rules(check(root))
    assert (None, "split_overlap", "warning") in found
    assert (COPY, "split_leakage", "error") in found
    assert (COPY, "duplicate_episode", "error") not in found


@pytest.mark.parametrize("name", ["decisions", "thresholds", "reference", "holdout"])
def test_a_missing_file_is_named(name: str, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}/absent"):
        run({"dataset": dataset}, tmp_path, Parameters(**{name: str(tmp_path / "absent")}), Silent())
