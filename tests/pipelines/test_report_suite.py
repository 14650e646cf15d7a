"""The report of a suite: each task and condition with its interval, zero-shot, latency, leakage, the champion."""

import hashlib
import json
import re
import xml.etree.ElementTree as ET

import pytest

from model.evaluation.suite import suite_figures, violation_counts
from pipelines.report import write_report
from tests.pipelines.report_runs import Page, entry, trial, write_evaluation

SOLVED = {
    ("touch_right", "clean"): 18,
    ("touch_right", "randomised"): 14,
    ("transfer_to_right", "clean"): 3,
    ("transfer_to_right", "randomised"): 0,
}
LEAKAGE = {
    "evaluation_seeds": [[0, 19]], "training_seeds": [[1000, 1090]], "shared_seeds": [], "training_episodes": 91,
    "holdout_episodes": 9, "shared_episodes": [],
}  # fmt: skip
CHECKS = [
    {"name": "trials", "passed": True, "message": "20 trials, at least 10 are asked for"},
    {"name": "not_worse", "passed": True, "message": "+10 points against the champion on the same 20 seeds"},
    {"name": "no_regression", "passed": False, "message": "worse than the champion in 1 of 4 tasks: touch_right"},
]


@pytest.fixture
def folders(tmp_path):
    """Artefacts of an evaluation with a suite, and of a promotion."""
    evaluation = write_evaluation(tmp_path / "evaluate")
    records = [trial(condition, seed, seed < n, task) for (task, condition), n in SOLVED.items() for seed in range(20)]
    more = {
        "suite": suite_figures(records), "violations": violation_counts(records) | {"velocity": 7},
        "zero_shot": ["transfer_to_right"], "latency": {"injected_ms": 120.0, "real_time": True}, "leakage": LEAKAGE,
        "digests": {"trials": "5eed" * 16},
    }  # fmt: skip
    (tmp_path / "evaluate" / "evaluation.json").write_text(json.dumps(evaluation | more))
    (tmp_path / "promote").mkdir()
    (tmp_path / "promote" / "verdict.json").write_text(json.dumps({"promote": False, "checks": CHECKS}))
    return tmp_path


def page_of(folders) -> str:
    steps = [entry(name, summary={}, folder=str(folders / name)) for name in ("evaluate", "promote")]
    run = {"id": "r", "pipeline": "p", "steps": steps, "started": None, "served": None}
    return write_report(run, folders / "report.html").read_text()


def edit(folders, **changes) -> None:
    file = folders / "evaluate" / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_every_task_and_condition_has_its_rates_and_intervals(folders):
    text = Page(page_of(folders)).text
    assert "touch right clean 20 90% 70% to 97%" in text
    assert "touch right randomised 20 70% 48% to 85%" in text


def test_the_held_out_task_is_marked_as_zero_shot_and_no_other(folders):
    text = Page(page_of(folders)).text
    assert "transfer to right zero-shot clean 20 15%" in text
    assert "touch right zero-shot" not in text
    assert "the policy was never trained on transfer to right." in text


def test_the_intervals_are_drawn_for_every_task_and_condition(folders):
    drawings = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page_of(folders), re.S)]
    titles = {drawing.get("aria-label"): [title.text for title in drawing.iter("title")] for drawing in drawings}
    drawn = titles["Success rate by task"]
    assert len(drawn) == len(titles["Progress score by task"]) == len(SOLVED)
    assert drawn[3] == "transfer to right, randomised: 0%, 95% interval 0 to 16"


def test_trials_that_a_server_broke_off_are_counted(folders):
    suite = json.loads((folders / "evaluate" / "evaluation.json").read_text())["suite"]
    suite["touch_right"]["clean"]["errors"] = 2
    edit(folders, suite=suite)
    assert "20 (2 broken off)" in Page(page_of(folders)).text


def test_latency_and_violations_are_said_in_a_line(folders):
    said = (
        "Latency: 120 ms from a look to its chunk were simulated, real-time chunking. Violations in all trials of the "
        "policy: 0 commanded values beyond a joint's limits, 7 changes faster than its velocity."
    )
    assert said in Page(page_of(folders)).text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "none of 20 evaluated scenes was trained on; none of 9 held-out episodes is in training (91 episodes)"),
        ({"training_seeds": None}, "20 scenes were evaluated, and the scenes of training are not known"),
        ({"evaluation_seeds": []}, "no scene was evaluated; none of 9"),
        (
            {"training_sets": [{"stages": ["pretrain", "finetune"], "robot": "gr1", "episodes": 91}], "unknown": ["x"]},
            "none of 20 evaluated scenes was trained on; none of 9 held-out episodes is in training (91 episodes). "
            "Episodes by stage: pretrain and finetune 91 of gr1. X.",
        ),
    ],
)
def test_what_is_known_of_leakage_is_said(folders, changes, said):
    edit(folders, leakage=LEAKAGE | changes)
    html = page_of(folders)
    assert f"Leakage: {said}" in Page(html).text
    assert 'class="alarm"' not in html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shared_seeds": [[3, 4], [9, 9]]}, "3 of 20 evaluated scenes were trained on (seeds 3 to 4, 9)"),
        ({"shared_episodes": [[2, 40]]}, "1 of 9 held-out episodes is in training"),
    ],
)
def test_leakage_is_an_alarm(folders, changes, said):
    edit(folders, leakage=LEAKAGE | changes)
    alarm = re.search(r'<p class="alarm">(.*?)</p>', page_of(folders))
    assert alarm is not None and said in alarm[1]


def test_the_champion_is_compared_check_by_check(folders):
    text = Page(page_of(folders)).text
    assert "not worse than the champion passed +10 points against the champion on the same 20 seeds" in text
    assert "no task worse than the champion's failed worse than the champion in 1 of 4 tasks" in text


@pytest.fixture
def judged(folders, monkeypatch):
    """The promotion of a version with 18 of 20 scenes against a champion with 8, whose trials are stored."""
    monkeypatch.setenv("LINGBOT_HOME", str(folders / "home"))
    inputs = {}
    for name, solved in (("trials", 18), ("champion_trials", 8)):
        lines = "".join(trial("policy", seed, seed < solved).to_line() + "\n" for seed in range(20)).encode()
        inputs[name] = hashlib.sha256(lines).hexdigest()
        (folders / "home" / "trials").mkdir(parents=True, exist_ok=True)
        (folders / "home" / "trials" / f"{inputs[name]}.jsonl").write_bytes(lines)
    policy = {"min_trials": 10, "max_drop": 0.05, "regression_alpha": 0.05}
    verdict = {"promote": True, "checks": CHECKS, "inputs": inputs, "policy": policy}
    (folders / "promote" / "verdict.json").write_text(json.dumps(verdict))
    return folders


def test_the_champion_is_drawn_beside_with_the_difference_and_what_is_allowed(judged):
    drawings = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page_of(judged), re.S)]
    titles = {drawing.get("aria-label"): [title.text for title in drawing.iter("title")] for drawing in drawings}
    assert titles["Success rates, champion in grey"] == [
        "lift right, policy: 90%, 95% interval 70 to 97", "champion: 40%, 95% interval 22 to 61"
    ]  # fmt: skip
    assert titles["Difference, in points"] == [
        "allowed: −5 points", "lift right, policy: +50 points, 95% interval +22 to +69"
    ]  # fmt: skip


@pytest.mark.parametrize(("swapped", "tone"), [(False, "--accent"), (True, "--series-2")])
def test_a_task_that_got_worse_has_a_colour_of_its_own(judged, swapped, tone):
    verdict = json.loads((judged / "promote" / "verdict.json").read_text())
    ours, theirs = (verdict["inputs"][name] for name in ("trials", "champion_trials"))
    if swapped:
        verdict["inputs"] = {"trials": theirs, "champion_trials": ours}
    (judged / "promote" / "verdict.json").write_text(json.dumps(verdict))
    (dot,) = re.findall(r'<circle cx="[\d.]+" cy="[\d.]+" r="5" fill="var\((.*?)\)"/>', page_of(judged))
    assert dot == tone


def test_a_champion_whose_trials_are_gone_is_not_drawn_and_the_page_says_why(judged):
    for file in (judged / "home" / "trials").iterdir():
        file.unlink()
    text = Page(page_of(judged)).text
    assert "not worse than the champion passed" in text and "are not stored here any more" in text


def test_a_verdict_without_a_champion_has_no_comparison(folders):
    (folders / "promote" / "verdict.json").write_text(json.dumps({"promote": True, "checks": CHECKS[:1]}))
    assert "Against the champion" not in Page(page_of(folders)).text


def test_an_evaluation_of_before_the_suite_has_none_of_it(folders):
    file = folders / "evaluate" / "evaluation.json"
    new = ("suite", "violations", "zero_shot", "latency", "leakage", "digests")
    file.write_text(
        json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name not in new})
    )
    text = Page(page_of(folders)).text
    for absent in ("The suite:", "Latency:", "Leakage:"):
        assert absent not in text
