"""`lingbot plan tokens` says bytes, GPU hours, bandwidth, and when recomputing is cheaper."""

import json

import pytest

from pipelines.cli import main

WANTED = ["plan", "tokens", "--hours", "20000", "--views", "3", "--rate", "10"]


def test_the_plan_of_twenty_thousand_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WANTED, "--codec", "bf16", "--gpus", "256", "--monocular"]) == 0
    shown = capsys.readouterr().out
    assert "720,000,000 frames" in shown and "1.1 PB as bf16 (524,288 bytes a view)" in shown
    assert "int8 567.3 TB" in shown and "pca128-int8 71.9 TB" in shown
    assert "40.3 GB/s: 256 GPUs of 100 samples/s, 1.6 MB a sample" in shown
    assert "GPU hours: dinov2_vitl14 after MoGe-2" in shown
    assert "recomputing is cheaper below" in shown and shown.rstrip().endswith("recompute for 1")


def test_many_passes_are_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WANTED, "--codec", "pca128-int8", "--passes", "20"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("store for 20")


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WANTED, "--json", "--bandwidth", "1", "--gpus", "256"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["view_bytes"] == 262_656 and figures["bandwidth"] == 1e9
    assert figures["slowed_samples_per_second"] < figures["samples_per_second"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "int9"], "unknown token codec 'int9'.*Did you mean 'int8'"),
        (["--rate", "0"], "rate is 0.0: it must be above 0"),
        (["--teacher", "dinov2_vitl"], "unknown depth backbone 'dinov2_vitl'.*Did you mean 'dinov2_vitl1"),
        (["--tokens", "0"], "tokens is 0: it must be above 0"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    assert main([*WANTED, *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
