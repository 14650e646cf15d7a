"""`lingbot run study` as a person runs it: real KFP, a real ParallelFor, small steps (see conftest.House)."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.pipelines.conftest import House

DATA = ["collect", "validate", "annotate", "extract_depth_tokens", "pack"]
# What a study reads of parameters, and the page that it leaves.
FIELDS = {
    "collect": "episodes: int = 9\n    tasks: tuple[str, ...] = ('a',)",
    "pack": "holdout_fraction: float = 0.1",
    "subset": "axis: str = 'share'\n    amount: float = 1.0",
    "evaluate": "baselines: bool = True\n    language: bool = True",
    "study": "axis: str = 'share'\n    amounts: tuple[float, ...] = (0.5, 1.0)\n    repeats: int = 1\n    "
    "parallel: int = 2",
}


class StudyHouse(House):
    def _build(self) -> None:
        super()._build()
        for name, fields in FIELDS.items():
            path = self.root / f"components/{name}/step.py"
            source = path.read_text().replace("    seed: int = 0\n", f"    seed: int = 0\n    {fields}\n")
            path.write_text(source)
        path = self.root / "components/study/step.py"
        written = '(output / "study.html").write_text("the page")\n    return {"conclusions": ["more is better"], '
        path.write_text(path.read_text().replace("return {", written))
        # The step with two values of `amount`: the part of the data, and what every small step has.
        path = self.root / "components/subset/step.py"
        path.write_text(path.read_text().replace("    amount: int = 3\n", ""))
        parameters = self.root / "params.yaml"
        parameters.write_text(parameters.read_text().replace("subset: {amount: 2, rate: 0.25}", "subset: {rate: 0.25}"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> StudyHouse:
    """A house in which one study went through."""
    house = StudyHouse(tmp_path_factory.mktemp("study"))
    result = house.lingbot("run", "study")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "study        more is better" in result.stdout
    assert "pretrain 2 times" in result.stdout
    return house


def record(house: House) -> dict:
    return json.loads(sorted(house.home.glob("runs/*/run.json"))[-1].read_text())


def test_every_policy_is_made_once_and_joined(finished):
    executed = Counter(line for line in finished.executed() if " " not in line)
    assert executed == {
        **dict.fromkeys(DATA, 1),
        **dict.fromkeys(("subset", "pretrain", "finetune", "evaluate"), 2),
        "study": 1,
    }
    run = record(finished)
    assert run["pipeline"] == "study" and run["status"] == "done"
    assert {entry["status"] for entry in run["steps"]} == {"done"}
    joined = Path(run["steps"][-1]["folder"], "result.txt").read_text()
    assert joined.count("evaluate 2") == 2 and "evaluations[0]" in joined and "evaluations[1]" in joined
    assert Path(run["report"]).read_text() == "the page"
    assert run["served"] is None


def test_each_policy_has_progress_parameters_and_digests_of_its_own(finished):
    run = record(finished)
    by_name = {entry["name"]: entry for entry in run["steps"]}
    folder = finished.home / "runs" / run["id"] / "progress"
    for label, amount in (("0.5-0", 0.5), ("1-0", 1.0)):
        assert by_name[f"subset@{label}"]["parameters"]["amount"] == amount
        assert by_name[f"pretrain@{label}"]["step"] == "pretrain"
        assert (folder / f"pretrain@{label}.jsonl").read_text().count('"start"') == 1
    assert by_name["pretrain@0.5-0"]["fingerprint"] != by_name["pretrain@1-0"]["fingerprint"]


def test_a_second_study_repeats_nothing(finished):
    result = finished.lingbot("run", "study")
    assert result.returncode == 0
    assert finished.executed() == []
    assert "every step is reused" in result.stdout


def test_one_changed_byte_repeats_that_policy_and_the_join(finished):
    entry = next(entry for entry in record(finished)["steps"] if entry["name"] == "finetune@1-0")
    path = Path(entry["folder"], "more/numbers.bin")
    path.write_bytes(b"changed")
    result = finished.lingbot("run", "study")
    assert result.returncode == 0, result.stdout
    assert finished.executed() == ["finetune", "finetune from 0", "evaluate", "study"]
    assert "finetune@1-0, evaluate@1-0, study run again" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "study", "--record", "mine"), "a run of study makes no release"),
        (("data", "release", "mine", "--run", "last"), "is of the pipeline 'study'"),
        (("step", "study"), "joins the policies of a study: run it with `lingbot run study`"),
    ],
)
def test_what_a_study_is_not_for_is_one_sentence(finished, arguments, told):
    result = finished.lingbot(*arguments)
    assert result.returncode == 2
    assert told in result.stderr and "Traceback" not in result.stderr


def test_a_part_can_be_made_alone(finished):
    result = finished.lingbot("step", "subset", "--set", "subset.amount=0.5")
    assert result.returncode == 0, result.stderr
    assert finished.executed() in ([], ["subset"])
