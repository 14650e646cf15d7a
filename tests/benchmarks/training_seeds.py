"""Several training seeds of the demo, with and without depth alignment, as a Markdown table.

    .venv/bin/python tests/benchmarks/training_seeds.py --seeds 0 1 2 --depth-weights 0.2 0 [--set KEY=VALUE ...]

Each line is one `lingbot run` on the same demonstrations (those steps are reused), so an interrupted study goes on
where it stopped. Not part of `make test`: a run trains for minutes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from components import state

HEADER = (
    "| training seed | depth alignment | SR (95% interval) | PS | over mean replay | blank images | goal loss |\n"
    "|---|---|---|---|---|---|---|"
)


def run_once(seed: int, depth_weight: float, settings: list[str]) -> dict[str, Any]:
    """The run record of one training; raises CalledProcessError when the run fails."""
    values = [
        f"pretrain.seed={seed}", f"finetune.seed={seed}", f"pretrain.depth_weight={depth_weight}", *settings,
    ]  # fmt: skip
    command = [sys.executable, "-m", "pipelines.cli", "run"]
    for value in values:
        command += ["--set", value]
    subprocess.run(command, check=True)
    newest = max((state.home() / "runs").glob("*/run.json"), key=lambda path: path.parent.name)
    return json.loads(newest.read_text())


def table_line(seed: int, depth_weight: float, run: dict[str, Any]) -> str:
    steps = {step["name"]: step for step in run["steps"]}
    evaluation = json.loads((Path(steps["evaluate"]["folder"]) / "evaluation.json").read_text())
    closed, paired = evaluation["closed_loop"], evaluation["paired"]["vs_mean_replay"]
    policy = closed["policy"]
    return (
        f"| {seed} | {'on' if depth_weight else 'off'} "
        f"| {policy['sr']:.0%} ({policy['sr_low']:.0%} to {policy['sr_high']:.0%}, {policy['trials']} trials) "
        f"| {policy['ps']:.0%} | {paired['difference']:+.0%} ({paired['low']:+.0%} to {paired['high']:+.0%}) "
        f"| {closed['blank_images']['sr']:.0%} | {steps['finetune']['summary']['loss_goal']:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--depth-weights", type=float, nargs="+", default=[0.2, 0.0])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    lines = [
        table_line(seed, weight, run_once(seed, weight, arguments.settings))
        for weight in arguments.depth_weights
        for seed in arguments.seeds
    ]
    print("\n".join([HEADER, *lines]))


if __name__ == "__main__":
    main()
