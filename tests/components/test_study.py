"""The steps `subset` and `study` through the harness: from a packed set to a page, by the records between them."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components import records
from components.execution import execute
from components.steps import STEPS, spread
from components.study.step import Parameters
from model.errors import UserError
from model.evaluation.records import write_trials
from tests.components.small_steps import make_step
from tests.model.data.demonstrations import MemoryDataset, pack_memory
from tests.model.evaluation.study_runs import trial

SCENES = 12
AMOUNTS = (1.0, 2.0, 3.0)


class Page(HTMLParser):
    """What a page would load, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "srcset", "data", "poster")]

    def handle_data(self, data):
        self.words.append(data)


def write_packed(inputs, output: Path, parameters, progress) -> None:
    pack_memory(output, MemoryDataset(lengths=(12, 9, 10, 8, 11, 7, 13, 6)), holdout_fraction=0.1)


def write_policy(inputs, output: Path, parameters, progress) -> None:
    (output / "bundle").write_bytes((inputs["packed"] / "steps.arrow").read_bytes())


def judge(better: float):
    def write_evaluation(inputs, output: Path, parameters, progress) -> None:
        """More bytes, more success: a policy whose failures fall with the episodes that it saw."""
        size = (inputs["policy"] / "bundle").stat().st_size
        passed = [4 if scene < min(SCENES, size / 1000 * better) else scene % 3 for scene in range(SCENES)]
        write_trials(output / "trials.jsonl", [trial(scene, count) for scene, count in enumerate(passed)])
        evaluation = {
            "task": "lift_right", "robot": "aloha_sim", "bundle_digest": "b" * 64, "closed_loop": {},
            "closed_loop_reason": None, "digests": {"holdout_episodes": parameters.label, "trials": "t" * 64},
            "open_loop": {"horizons": [1, 10], "overall": {"mae": [0.1, 100 / size]}},
        }  # fmt: skip
        (output / "evaluation.json").write_text(json.dumps(evaluation))

    return write_evaluation


class Chain:
    """pack -> subset -> finetune -> evaluate as a study has them; `subset` and `study` are the real steps."""

    def __init__(self) -> None:
        pack, _ = make_step("pack", write_packed)
        self.finetune, _ = make_step("finetune", write_policy, packed="subset")
        self.evaluate, _ = make_step("evaluate", judge(0.9), policy="finetune")
        self.packed = execute(pack, {}, {}, version="v1")

    def evaluation(self, amount: float, seed: int, **parameters):
        asked = {"axis": "demonstrations", "amount": amount, "seed": seed}
        part = execute(STEPS["subset"], {"packed": self.packed}, asked)
        policy = execute(self.finetune, {"packed": part}, {}, version="v1")
        return execute(self.evaluate, {"policy": policy}, parameters, version="v1")

    def study(self, evaluations):
        step = spread(STEPS["study"], {"evaluations": ["evaluate"] * len(evaluations)})
        inputs = {f"evaluations[{number}]": evaluation for number, evaluation in enumerate(evaluations)}
        asked = {"axis": "demonstrations", "amounts": list(AMOUNTS)}
        return execute(step, inputs, asked)


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    return Chain()


def folder(artifact) -> Path:
    return records.data_folder(artifact.step, artifact.fingerprint)


def test_a_study_joins_what_its_policies_saw_and_did(chain: Chain) -> None:
    evaluations = [chain.evaluation(amount, seed) for amount in AMOUNTS for seed in (0, 1)]
    made = chain.study(evaluations[::-1])  # however they arrive
    study = json.loads((folder(made) / "study.json").read_text())
    assert [(run["amount"], run["seed"]) for run in study["runs"]] == [(a, s) for a in AMOUNTS for s in (0, 1)]
    assert [point["x"] for point in study["points"]] == list(AMOUNTS)
    rates = [point["sr"] for point in study["points"]]
    assert rates == sorted(rates) and rates[0] < rates[-1]
    assert study["laws"]["open_loop"]["exponent_low"] > 0
    for run, part in zip(study["runs"], _parts(evaluations), strict=True):
        assert run["digests"]["subset"] == part.digest
        assert run["digests"]["training_episodes"] == part.summary["training_episodes"]
        assert run["episodes"] == 2 * run["amount"]
    assert made.summary["conclusions"] == study["conclusions"]


def _parts(evaluations):
    for evaluation in evaluations:
        policy = evaluation.inputs["policy"]
        source = records.load_artifact(policy.step, policy.fingerprint).inputs["packed"]
        yield records.load_artifact(source.step, source.fingerprint)


def test_parts_of_a_seed_are_nested_and_recorded(chain: Chain) -> None:
    evaluations = [chain.evaluation(amount, seed) for seed in (0, 1) for amount in AMOUNTS]
    chosen = [json.loads((folder(part) / "subset.json").read_text())["episodes"] for part in _parts(evaluations)]
    for less, more in ((0, 1), (1, 2), (3, 4), (4, 5)):
        assert set(chosen[less]) < set(chosen[more])
    assert len({part.summary["training_episodes"] for part in _parts(evaluations)}) > len(AMOUNTS)


def test_the_page_draws_everything_and_loads_nothing(chain: Chain) -> None:
    made = chain.study([chain.evaluation(amount, seed) for amount in AMOUNTS for seed in (0, 1)])
    html = (folder(made) / "study.html").read_text()
    page = Page(html)
    assert page.loads == []
    assert not re.search(r"@import|url\(\s*[\"']?http|<script", html)
    (drawing,) = re.findall(r"<svg.*?</svg>", html, re.S)
    panels = [group for group in ET.fromstring(drawing).iter() if group.get("id", "").startswith("axes_")]
    assert len(panels) == 3, "success rate, progress score, open loop"
    text = " ".join(" ".join(page.words).split())
    for said in (
        "How much data does it take?",
        "1 demonstrations a task",
        "Open-loop error: twice the data leaves",
        "Differences on the same scenes, in points",
        made.summary["conclusions"][0],
    ):
        assert said in text, said
    assert (folder(made) / "study.png").read_bytes()[:4] == b"\x89PNG"


def test_equal_studies_have_equal_bytes(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chain.study([chain.evaluation(amount, 0) for amount in AMOUNTS])
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "another"))
    again = Chain()
    assert again.study([again.evaluation(amount, 0) for amount in AMOUNTS]).digest == first.digest


def test_evaluations_on_other_held_out_episodes_are_refused(chain: Chain) -> None:
    evaluations = [chain.evaluation(1.0, 0), chain.evaluation(2.0, 0, label="another split")]
    with pytest.raises(UserError, match="different held-out episodes"):
        chain.study(evaluations)


def test_an_evaluation_of_no_study_is_refused(chain: Chain) -> None:
    policy = execute(chain.finetune, {"packed": chain.packed}, {}, version="v1")
    alone = execute(chain.evaluate, {"policy": policy}, {}, version="v1")
    with pytest.raises(UserError, match="leads to no subset of the data: run the whole study"):
        chain.study([alone, chain.evaluation(1.0, 0)])


def test_the_same_part_made_by_other_code_counts_as_the_same(chain: Chain) -> None:
    evaluations = [chain.evaluation(amount, 0) for amount in AMOUNTS]
    for part, amount in zip(list(_parts(evaluations)), AMOUNTS, strict=True):
        records.remove(part.step, part.fingerprint)
        execute(STEPS["subset"], {"packed": chain.packed}, dict(part.parameters), version="other code")
        assert part.summary["amount"] == amount
    study = json.loads((folder(chain.study(evaluations)) / "study.json").read_text())
    assert [run["amount"] for run in study["runs"]] == list(AMOUNTS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"amounts": (0.5,)}, "two amounts or more"),
        ({"amounts": (0.5, 0.5)}, "each different"),
        ({"amounts": (0.5, 1.5)}, "a share of the data is at most 1"),
        ({"amounts": (0.5, -1.0)}, "must be above 0 share"),
        ({"axis": "demonstrations", "amounts": (80.0, 99.5)}, "demonstrations of a task are whole"),
        ({"repeats": 0}, "at least once"),
        ({"repeats": 13}, "13 x 4 amounts are 52 policies: at most 50"),
        ({"parallel": 0}, "must be 1 to 50"),
    ],
)
def test_a_study_that_cannot_be_is_named(values, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Parameters(**values)
