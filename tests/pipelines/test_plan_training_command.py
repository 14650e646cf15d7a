"""`lingbot plan training` says time, cost and the bound that holds, and draws the paper's points beside them."""

import json
import re
from pathlib import Path

import pytest

from model.training.scaling import PAPER, fit_paper, share_of_linear
from pipelines.cli import main

WANTED = ["plan", "training", "--gpus", "256", "--hours", "20000"]
DOCUMENT = Path(__file__).parents[2] / "docs/scaling.md"


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main([*WANTED, "--json", *arguments]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_plan_of_twenty_thousand_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WANTED) == 0
    shown = capsys.readouterr().out
    assert "720,000,000 samples of lingbot_vla_4b, 6.74 TFLOP each with 1 draw" in shown
    assert re.search(r"rate +16,431 samples/s on 256 x h100, 64.2 a GPU", shown)
    assert re.search(r"bound +compute; seconds a step: compute 0.436, memory 0.063, network 0.081, data 0.002", shown)
    assert re.search(r"time +12.2 h\n", shown)
    assert re.search(r"cost +9,348 USD: 3,116.1 GPU hours at 3", shown)
    assert re.search(r"paper +7,356 samples/s on 256 GPUs, 88.1% of linear from 8; the plan is 2.23 times that", shown)


def test_figures_hang_together(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, "--gpu-hour-price", "2", "--passes", "2")
    assert found["samples"] == 2 * 20_000 * 3600 * 10
    assert found["hours"] == pytest.approx(found["samples"] / found["samples_per_second"] / 3600)  # type: ignore[operator]
    assert found["cost"] == pytest.approx(found["hours"] * 256 * 2)  # type: ignore[operator]
    assert found["reached_mfu"] == pytest.approx(0.5 / found["waiting"])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [
        (["--network", "1"], "network"),
        (["--bandwidth", "0.001"], "data"),
        (["--loader", "video", "--cores", "1"], "data"),
        (["--network", "1", "--mfu", "0.01"], "compute"),
    ],
)
def test_the_bound_follows_what_is_given(arguments: list[str], bound: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures(capsys, *arguments)["bound"] == bound


def test_a_batch_that_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WANTED, "--batch", "64"]) == 0
    assert "does NOT fit; choose a batch of at most 36, or recompute more" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_picture_is_drawn_alike_each_time(
    suffix: str, magic: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
    for path in (first, second):
        assert main([*WANTED, "--picture", str(path)]) == 0
    assert first.read_bytes().startswith(magic) and first.read_bytes() == second.read_bytes()


def test_the_picture_shows_every_point_of_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WANTED, "--picture", str(tmp_path / "scaling.svg")]) == 0
    texts = set(re.findall(r">([\d,.]+)</text>", (tmp_path / "scaling.svg").read_text()))
    assert {f"{rate:,.0f}" for rate in PAPER.values()} <= texts
    assert {f"{100 * share:.1f}" for share in share_of_linear(PAPER).values()} <= texts


def test_the_document_says_what_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Its table: GPUs, the paper's rate and share of linear, the fit and its error, the plan at the target MFU."""
    rows = [line.strip("|").split("|") for line in DOCUMENT.read_text().splitlines() if re.match(r"\| +\d", line)]
    fit, shares, wanted = fit_paper(), share_of_linear(PAPER), []
    for gpus, rate in PAPER.items():
        assert main(["plan", "training", "--gpus", str(gpus), "--hours", "20000", "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        wanted.append(
            [
                str(gpus), f"{rate:,.0f}", f"{shares[gpus]:.1%}", f"{rate * (1 + fit.errors[gpus]):,.0f}",
                f"{fit.errors[gpus]:+.1%}", f"{plan['samples_per_second']:,.0f}", f"{plan['hours']:.0f} h",
                f"{plan['cost']:,.0f}",
            ]
        )  # fmt: skip
    assert [[cell.strip() for cell in row] for row in rows] == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "12"], "gpus is 12: beyond one node they come in whole nodes of 8; choose 8 or 16"),
        (["--hours", "0"], "hours is 0.0: it must be a number above 0"),
        (["--gpu-hour-price", "-1"], "gpu-hour-price is -1.0: it must be 0 or more"),
        (["--gpu", "h10"], "unknown GPU 'h10'.*Did you mean 'h100'"),
        (["--preset", "lingbot"], "unknown preset 'lingbot'"),
        (["--picture", "scaling.gif"], "picture is scaling.gif: its name must end in .png or .svg"),
        (["--picture", "nowhere/scaling.png"], "there is no folder nowhere; make it first"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WANTED, *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
