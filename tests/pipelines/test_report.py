"""The report of a run: one page that loads nothing, shows what there is, and says what there is not."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from model.data.annotations import write_annotations
from pipelines.report import write_report
from pipelines.report.charts import Line, Span, lines
from tests.model.data.demonstrations import pack_memory
from tests.pipelines.report_runs import Page, entry, write_evaluation

PROMOTION = {
    "model": "lingbot-vla-aloha_sim", "version": "3", "alias": "champion", "promoted": True, "warnings": [],
    "verdict": "promoted: 20 trials, at least 10 are asked for; SR 80% with a lower bound of 58%",
}  # fmt: skip
TRAINED = {
    "parameters": 1_600_000, "steps": 40, "seconds": 12.5, "depth_alignment": "on", "goal_head": True,
    "samples_per_second": 77.0, "draws_per_second": 308.0, "data_wait": 0.012, "loss_total": 0.2,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run's record with small artefacts of every kind that the report reads."""
    folders = {name: tmp_path / name for name in ("validate", "annotate", "pack", "pretrain", "evaluate")}
    for name in ("validate", "annotate", "pretrain"):
        folders[name].mkdir()
    finding = {"rule": "values_not_finite", "severity": "error", "episode": 2, "evidence": {}}
    dataset = {
        "version": "v3.0", "robot": "aloha_sim", "fps": 10, "frames": 39, "hours_usable": 0.5, "depth": True,
        "cameras": ["observation.images.cam_high"], "tasks": ["lift <b>"],
    }  # fmt: skip
    verdict = {
        "dataset": dataset, "episodes_total": 5, "episodes_usable": 4,
        "findings": [finding | {"message": "episode 2 has NaN <script>alert(1)</script>"}],
    }  # fmt: skip
    (folders["validate"] / "verdict.json").write_text(json.dumps(verdict))
    segments = [(1, 0, 9, "reach", "left"), (0, 5, 12, "lift", "right"), (0, 0, 5, "reach", "right")]
    texts = {"task": "lift", "sub_task": "", "source": "template", "confidence": 0.5}
    named = ("episode", "start", "end", "atomic_action", "arm")
    write_annotations(folders["annotate"], [dict(zip(named, one, strict=True)) | texts for one in segments])
    meta = pack_memory(folders["pack"])
    losses = [json.dumps({"step": step, "action": 1 / step, "total": 2 / step}) for step in (20, 40, 60)]
    (folders["pretrain"] / "metrics.jsonl").write_text("\n".join(losses) + "\n")
    evaluation = write_evaluation(folders["evaluate"])
    shown = {name: evaluation[name] for name in ("task", "closed_loop", "paired")}
    validated = {"usable": 4, "quarantined": 1, "hours": 0.5}
    steps = [
        entry("collect", summary={"episodes": 5}, folder=str(tmp_path / "collect"), digest="c0" * 32, bytes=5),
        entry("validate", summary=validated, folder=str(folders["validate"]), digest="aa" * 32, bytes=2**21),
        entry("annotate", summary={"segments": 3}, folder=str(folders["annotate"]), digest="ab" * 32, bytes=9),
        entry("pack", status="cached", made_in_seconds=60.0, summary=dict(meta.counts), folder=str(folders["pack"])),
        entry("pretrain", summary=TRAINED, folder=str(folders["pretrain"])),
        entry("evaluate", summary=shown, folder=str(folders["evaluate"])),
        entry("register", summary={"model": "lingbot-vla-aloha_sim", "version": "3"}),
        entry("promote", summary=PROMOTION),
    ]
    return {
        "id": "20261122-142301-9f3c", "pipeline": "demonstrations_to_policy", "source": "collect", "started": 1.8e9,
        "threads": 2, "command": "lingbot run", "code": {"commit": "c0ffee", "dirty": True},
        "served": {"http_ms": 31.2},
        "hardware": {"processor": "CPU", "cores": 2, "memory": 2**33}, "versions": {"python": "3.11"}, "steps": steps,
    }  # fmt: skip


def test_the_page_holds_everything_and_loads_nothing(run, tmp_path):
    path = write_report(run, tmp_path / "out" / "report.html")
    html = path.read_text()
    page = Page(html)
    assert len(page.loads) == 8, "two films of two pictures, three camera views, one drawing"
    assert all(re.match(r"data:image/(png|webp);base64,", source) for source in page.loads)
    assert not re.search(r"@import|url\(|https?://", html)
    drawings = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(drawings) == 5, "SR, PS, one loss chart, two sides of an episode"
    for drawing in drawings:
        ET.fromstring(drawing)


def test_the_page_says_what_the_run_found(run, tmp_path):
    text = Page(write_report(run, tmp_path / "report.html").read_text()).text
    for said in (
        "lingbot-vla-aloha_sim version 3 is champion",
        "20 trials, at least 10 are asked for",
        "Success rate 80% 58 to 92 in 20 trials",
        "Beside mean replay +70 points",
        "Episodes 4 30.0 minutes, 1 quarantined",
        "2 values not finite episode 2 has NaN <script>alert(1)</script>",
        "on the 16 scenes solved with the right instruction, the swapped one still solved 1 (6%",
        "data wait 1%",
        "standard deviations 0.100 none",
        "Episode 0: “lift the cube with the right arm”",
        "The dataset has no depth.",
        "pack reused 1 min 00 s",
        "c0ffee with uncommitted changes",
    ):
        assert said in text, said
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html, "text of a dataset cannot become a part of the page"


def test_equal_runs_have_equal_pages(run, tmp_path):
    first, second = (write_report(run, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_a_run_without_closed_loop_or_promotion_says_so(run, tmp_path):
    evaluation = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text())
    evaluation |= {"closed_loop": None, "closed_loop_reason": "robot 'gr1' has no simulator here", "paired": {}}
    evaluation |= {"language": {}, "films": {}, "open_loop": None, "open_loop_reason": "no episode is held out"}
    (tmp_path / "evaluate" / "evaluation.json").write_text(json.dumps(evaluation))
    steps = {step["name"]: step for step in run["steps"]}
    steps["evaluate"]["summary"] = {"closed_loop": "none: robot 'gr1' has no simulator here"}
    steps["promote"]["summary"] = PROMOTION | {"promoted": False, "verdict": "not promoted: no closed-loop evidence"}
    text = Page(write_report(run, tmp_path / "report.html").read_text()).text
    assert "version 3 was not promoted No closed-loop evidence" in text
    assert "No closed loop: robot 'gr1' has no simulator here." in text
    assert "None: no episode is held out." in text


def test_a_run_that_stopped_early_has_a_page_too(run, tmp_path):
    run["steps"] = [
        run["steps"][0] | {"status": "failed", "folder": None, "summary": None},
        {"name": "validate", "status": "waiting", "parameters": {}},
    ]
    text = Page(write_report(run, tmp_path / "report.html").read_text()).text
    for said in ("No version was registered", "did not reach evaluation", "did not validate a dataset", "not run"):
        assert said in text, said


def test_overlapping_segments_lie_below_each_other():
    time = np.linspace(0, 4, 30)
    curve = Line(label="waist", x=time, y=np.sin(time), tone="--series-1")
    places = {"reach & grasp": (0, 2), "lift": (1, 3), "hold": (2, 4)}
    spans = [Span(start=start, end=end, label=label) for label, (start, end) in places.items()]
    drawing = ET.fromstring(lines([curve], title="Right", x_label="seconds", spans=spans))
    assert [box.get("y") for box in drawing.iter("rect")] == ["28", "43", "28"]
    assert [title.text for title in drawing.iter("title")][0] == "reach & grasp"
