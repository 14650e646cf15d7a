"""`lingbot evaluate score --page`: tables of each robot, intervals drawn, the other policy and the paper beside."""

import re
import xml.etree.ElementTree as ET

import pytest

from model.evaluation.records import Checkpoint, Latency, TrialRecord, write_trials
from pipelines.cli import main
from tests.pipelines.report_runs import Page


def trials(path, rates: dict[tuple[str, str], int], **fields):
    """15 trials of each robot and task, of which so many succeed."""
    records = [
        TrialRecord(
            **{
                "condition": "real", "policy": "ours", "bundle_digest": "b" * 64, "model_version": "7", "task": task,
                "instruction": "go", "robot": robot, "outcome": "success" if n < count else "failure",
                "reason": None if n < count else "time limit", "seconds": 90.0, "trial": str(n), "benchmark": "gm100",
                "checkpoints": (Checkpoint(name="held", seconds=20.0 if n < count else None),),
                "client_latency_ms": Latency(median=100.0 + n, p99=200.0 + n), **fields,
            }
        )
        for (robot, task), count in rates.items()
        for n in range(15)
    ]  # fmt: skip
    write_trials(path, records)
    return str(path)


OURS = {("agilex", "fold"): 6, ("agilex", "open"): 0, ("galaxea_r1_pro", "fold"): 3, ("galaxea_r1_pro", "open"): 9}
THEIRS = {**OURS, ("agilex", "fold"): 2, ("agilex", "open"): 15}


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    ours, theirs = trials(folder / "ours.jsonl", OURS), trials(folder / "theirs.jsonl", THEIRS)
    assert main(["evaluate", "score", ours, "--against", theirs, "--page", str(folder / "out" / "page.html")]) == 0
    return (folder / "out" / "page.html").read_text()


@pytest.fixture(scope="module")
def text(html):
    return Page(html).text


def drawings(html: str) -> dict[str, list[str]]:
    """Title of each chart -> what its marks say."""
    found = [ET.fromstring(drawing) for drawing in re.findall(r"<svg.*?</svg>", html, re.S)]
    assert len({one.get("aria-label") for one in found}) >= len(found) - 2, "two charts a robot have the same title"
    return {one.get("aria-label"): [title.text for title in one.iter("title")] for one in found}


def test_each_robot_has_its_own_table(text):
    assert "agilex task trials" in text and "galaxea r1 pro task trials" in text
    assert "fold 15 40% 20% to 64% 40%" in text
    assert "all 2 tasks 30 20% 10% to 37%" in text


def test_client_latency_stands_in_the_table(text):
    assert "client latency" in text and "107 ms, 214 ms" in text


def test_the_difference_to_the_other_policy_is_drawn_with_its_interval(html, text):
    marks = drawings(html)["Difference of success rates, in points"]
    assert marks[0].startswith("all 4 tasks: −18 points, 95% interval −34 to −1")
    assert len(marks) == 5
    assert "open, agilex 0% 100% −100 −100 to −71 worse" in text
    assert "fold, agilex 40% 13% +27 −5 to +53" in text


def test_the_published_table_stands_beside_with_its_source_and_a_caution(html, text):
    assert "60 trials of GM-100" in text
    assert "LingBot-VLA with depth 18.93 / 40.36 20.98 / 35.4 17.3 / 35.41" in text
    assert "ours (these trials) 20.0 / 20.0 40.0 / 40.0" in text
    assert "Published in LingBot-VLA paper, arXiv 2601.18692, the table of GM-100." in text
    assert "These trials are of 2 of its 100 tasks" in text
    marks = drawings(html)["Success rate, agilex"]
    assert marks[0] == "ours (these trials): 20%, 95% interval 10 to 37"
    assert marks[-1] == "LingBot-VLA with depth: 19%", "what has no published interval is drawn without one"


def test_the_page_loads_nothing_and_names_what_was_tried(html, text):
    assert Page(html).loads == [] and not re.search(r"@import|url\(|https?://", html)
    assert "agilex ours " + "b" * 64 + " 7" in text


def test_trials_of_the_simulator_have_no_published_table(tmp_path, capsys):
    file = trials(tmp_path / "a.jsonl", {("aloha_sim", "lift_right"): 3}, benchmark="aloha_mujoco")
    assert main(["evaluate", "score", file, "--page", str(tmp_path / "page.html")]) == 0
    assert "as published" not in Page((tmp_path / "page.html").read_text()).text
    assert "as published" not in capsys.readouterr().out
