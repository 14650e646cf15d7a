"""What a comparison says of data, quarantine, statistics, code and trials, and its page."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import state
from components.adapters.versioning import Git
from model.evaluation.records import Checkpoint, TrialRecord, write_trials
from pipelines.versions.comparison import compare, comparison_lines
from pipelines.versions.comparison_page import write_page
from pipelines.versions.differences import (
    code_differences,
    compare_trials,
    differences,
    episode_differences,
    episodes,
    quarantine_differences,
    statistics_drift,
)
from tests.fixtures_lerobot import write_dataset
from tests.pipelines.versions.test_compare import digests, result


class Folders:
    """The files of a result, in a folder a step."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, step: str, paths: Any) -> Path | None:
        return self.root / step if (self.root / step).exists() else None


def trial(seed: int, success: bool, condition: str = "policy") -> TrialRecord:
    return TrialRecord(
        policy=condition, condition=condition, bundle_digest="b", robot="aloha_sim", task="lift_right", seed=seed,
        instruction="lift", outcome="success" if success else "failure",
        reason=None if success else "late", seconds=1.0, looks=1,
        checkpoints=(Checkpoint(name="held", seconds=1.0 if success else None),),
    )  # fmt: skip


def test_episodes_are_known_by_what_they_hold(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", lengths=(20, 6, 3))
    write_dataset(tmp_path / "b", lengths=(21, 7, 4))
    first, second = episodes(tmp_path / "a"), episodes(tmp_path / "b")
    assert len({episode["sha256"] for episode in (*first, *second)}) == 6
    moved = [{**first[2], "episode": 0}, {**first[0], "episode": 1}, second[1]]
    found = episode_differences(first, moved)
    assert (found["first"], found["second"], found["shared"]) == (3, 3, 2)
    assert found["added"] == {
        "count": 1,
        "listed": [{key: second[1][key] for key in ("episode", "frames", "instruction")}],
    }
    assert [entry["episode"] for entry in found["removed"]["listed"]] == [1]


def test_the_version_of_a_dataset_is_not_what_an_episode_holds(tmp_path: Path) -> None:
    """v3.0 keeps many episodes in a file: slices of one table have the digests of tables of their own."""
    for version in ("v2.1", "v3.0"):
        write_dataset(tmp_path / version, version, lengths=(5, 4))
    assert episodes(tmp_path / "v2.1") == episodes(tmp_path / "v3.0")


def test_an_episode_under_another_number_is_the_same(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_dataset(tmp_path / "a", lengths=(5, 4))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path = sorted((tmp_path / "b" / "data").rglob("*.parquet"))[0]
    table = pq.read_table(path)
    for name in ("index", "episode_index"):
        column = table.schema.get_field_index(name)
        moved = pa.array([value + 100 for value in table[name].to_pylist()], table.schema.field(name).type)
        table = table.set_column(column, table.schema.field(name), moved)
    pq.write_table(table, path)
    one, other = (episodes(tmp_path / name)[0]["sha256"] for name in ("a", "b"))
    assert one == other


def test_one_number_in_one_episode_is_another_episode(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_dataset(tmp_path / "a", lengths=(5, 4))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path = sorted((tmp_path / "b" / "data").rglob("*.parquet"))[0]
    table = pq.read_table(path)
    column = table.schema.get_field_index("action")
    values = [list(row) for row in table["action"].to_pylist()]
    values[0][0] += 0.25
    pq.write_table(table.set_column(column, "action", pa.array(values, table.schema.field("action").type)), path)
    found = episode_differences(episodes(tmp_path / "a"), episodes(tmp_path / "b"))
    assert found["shared"] == 1 and found["added"]["count"] == found["removed"]["count"] == 1


def quarantine(folder: Path, entries: dict[int, str]) -> Path:
    folder.mkdir(parents=True)
    rows = [{"episode": episode, "rule": rule, "evidence": "x"} for episode, rule in entries.items()]
    (folder / "quarantine.yaml").write_text(yaml.safe_dump(rows))
    return folder


def test_a_changed_quarantine_is_named(tmp_path: Path) -> None:
    found = quarantine_differences(
        quarantine(tmp_path / "a", {1: "lag", 2: "still"}), quarantine(tmp_path / "b", {2: "still", 7: "units"})
    )
    assert found["added"] == {"count": 1, "listed": [{"episode": 7, "rules": ["units"]}]}
    assert found["released"] == {"count": 1, "listed": [{"episode": 1, "rules": ["lag"]}]}


def statistics(folder: Path, mean: list[float], std: list[float]) -> Path:
    folder.mkdir(parents=True)
    (folder / "statistics.json").write_text(json.dumps({"state": {"mean": mean, "std": std}}))
    (folder / "meta.json").write_text(json.dumps({"state_names": ["waist", "elbow"], "action_names": []}))
    return folder


def test_drift_is_measured_in_standard_deviations(tmp_path: Path) -> None:
    before = statistics(tmp_path / "a", [0.0, 1.0], [0.5, 2.0])
    after = statistics(tmp_path / "b", [0.01, 2.0], [0.5, 3.0])
    assert statistics_drift(before, after) == [{"part": "state", "dimension": "elbow", "shift": 0.5, "spread": 1.5}]
    assert statistics_drift(before, before) == []
    (narrow,) = statistics_drift(before, statistics(tmp_path / "c", [0.0], [0.5]))
    assert narrow["shift"] is None, "another width has no shift"
    wider = statistics_drift(before, statistics(tmp_path / "d", [0.0, 3.0], [2.0, 2.0]))
    assert [row["shift"] for row in wider] == [1.0, 0.0], "a spread alone has a shift of 0, the smallest"


def test_trials_on_the_same_scenes_are_paired(tmp_path: Path) -> None:
    scenes = range(40)
    write_trials(tmp_path / "a", [trial(seed, seed % 2 == 0) for seed in scenes])
    write_trials(tmp_path / "b", [trial(seed, seed % 4 != 1) for seed in scenes])
    found = compare_trials(tmp_path / "a", tmp_path / "b")["policy"]
    assert found["paired"] and found["trials"] == 40 and found["difference"] == pytest.approx(0.25)
    assert 0 < found["low"] < 0.25 < found["high"]
    write_trials(tmp_path / "c", [trial(seed + 100, seed % 4 != 1) for seed in scenes])
    apart = compare_trials(tmp_path / "a", tmp_path / "c")["policy"]
    assert not apart["paired"] and apart["low"] < found["low"], "without pairs the interval is wider"


def test_code_between_two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.invalid")
    git = Git(tmp_path)
    git.run("init", "-q")
    (tmp_path / "model").mkdir()
    commits = []
    for text in ("a", "b"):
        (tmp_path / "model" / "x.py").write_text(text)
        commits.append(git.commit_all(f"make it {text}", ["."]))
    monkeypatch.setattr(state, "checkout", lambda: tmp_path)
    first, second = result(commit=commits[0]), result(commit=commits[1])
    found = code_differences(first, second)
    assert found is not None and [line.split(" ", 1)[1] for line in found["commits"]] == ["make it b"]
    assert "model/x.py" in found["files"][0]
    assert code_differences(first, first) is None and code_differences(first, result(commit="f" * 40)) is None


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Folders, Folders]:
    for name, seed in (("a", 0), ("b", 1)):
        root = tmp_path / name
        write_dataset(root / "collect", lengths=(5 + seed, 3 + seed))
        quarantine(root / "validate", {seed: "lag <b>"})
        statistics(root / "pack", [float(seed), 0.0], [1.0, 1.0])
        (root / "evaluate").mkdir()
        write_trials(root / "evaluate" / "trials.jsonl", [trial(number, number > seed) for number in range(10)])
    return Folders(tmp_path / "a"), Folders(tmp_path / "b")


def test_text_and_page_say_all_of_it(sides: tuple[Folders, Folders], tmp_path: Path) -> None:
    parameters = {step: {} for step in ("collect", "validate", "pack", "finetune", "evaluate", "register")}
    first = result(digests=digests(collect="1", validate="1", pack="1"), parameters=parameters)
    second = result("second", digests=dict.fromkeys(first.digests, "2"), parameters=parameters)
    comparison = compare(first, second)
    comparison["differences"] = differences(first, second, *sides)
    text = "\n".join(comparison_lines(comparison))
    assert "episodes     2 -> 2, 0 in both" in text and "+ 1: lag" in text and "state waist: mean +1.000 std" in text
    assert "policy: -10 points" in text and "10 pairs" in text
    page = write_page(comparison, tmp_path / "comparison.html").read_text()
    for said in (
        "2 episodes added",
        "1 newly quarantined",
        "state waist",
        "10 pairs on the same scenes",
        "lag &lt;b&gt;",
    ):
        assert said in page, said
    assert "http" not in page and "<script" not in page


def test_a_study_has_a_page_too(tmp_path: Path) -> None:
    made = {"collect": "1", "finetune@40-0": "2", "register": "3"}
    study = result(digests=made, parameters={step: {} for step in made})
    page = write_page(compare(study, study), tmp_path / "page.html").read_text()
    assert "finetune@40-0" in page and "bitwise equal" in page


def test_equal_artefacts_are_not_read(tmp_path: Path) -> None:
    same = result(digests=digests(collect="1", validate="1"), parameters={"collect": {}, "validate": {}})
    same = dataclasses.replace(same, parameters={step: {} for step in same.digests})
    found = differences(same, same, Folders(tmp_path / "none"), Folders(tmp_path / "none"))
    assert found == {"data": {"episodes": None, "quarantine": None, "statistics": None}, "code": None, "trials": None}
    page = write_page(compare(same, same), tmp_path / "page.html").read_text()
    assert "bitwise equal" in page and "Data" not in page
