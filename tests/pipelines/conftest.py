"""A small house for tests of the DAG: the real harness, shells, pipeline and commands, with small steps in them.

The steps are files of a checkout, as the real ones are, so that fingerprints, code versions, subprocesses and KFP are
the real ones too. What a step did is in the log that `House.executed` reads.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TRAINING = ("pretrain", "finetune")

STEP = """
import json, os, time
from dataclasses import dataclass
from pathlib import Path
from components.{folder}.helper import text

NAME = "{name}"
INPUTS = {inputs!r}

@dataclass(frozen=True, kw_only=True)
class Parameters:
    amount: int = 3
    rate: float = 0.5
    label: str = "x"
    kinds: tuple[str, ...] = ("a", "b")
    loud: bool = False
    seed: int = 0
    {extra}

    def __post_init__(self):
        from model.errors import UserError
        if self.amount < 0:
            raise UserError(f"amount is {{self.amount}}: it must be 0 or more")

def run(inputs, output, parameters, progress):
    with open(os.environ["HOUSE_LOG"], "a") as log:
        log.write(NAME + "\\n")
    read = [f"{{name}}: {{(folder / 'result.txt').read_text()}}" for name, folder in sorted(inputs.items())]
    {body}
    (output / "result.txt").write_text(text(NAME, parameters) + "\\n".join(read))
    (output / "more").mkdir(exist_ok=True)
    (output / "more" / "numbers.bin").write_bytes(bytes(range(256)) * 16)
    return {{"name": NAME, **{summary!r}}}
"""
TRAINED = {
    "parameters": 1_612_345, "steps": 2, "samples_per_second": 123.4, "data_wait": 0.012, "depth_alignment": "on",
}  # fmt: skip
SCORES = {"sr": 0.82, "sr_low": 0.73, "sr_high": 0.88, "ps": 0.9, "ps_low": 0.85, "ps_high": 0.95, "trials": 100}
# What the real steps say, as far as the summary of a run shows it.
SUMMARIES = {
    "validate": {"episodes": 240, "usable": 238, "quarantined": 2, "hours": 0.61},
    "pretrain": TRAINED,
    "finetune": {**TRAINED, "bundle_digest": "b" * 64},
    "evaluate": {
        "closed_loop": {"policy": SCORES, "mean_replay": {**SCORES, "sr": 0.04, "sr_low": 0.02, "sr_high": 0.1}},
        "paired": {"vs_mean_replay": {"difference": 0.78, "low": 0.69, "high": 0.85}},
        "open_loop_error": {"1": 0.0123, "20": 0.0456},
    },
    "register": {"model": "lingbot-vla-aloha_sim", "version": 3},
    "promote": {"promoted": False, "verdict": "not promoted: 2 trials, it takes 50", "alias": "champion"},
}
EFFECTS = """
def verify(output):
    return not Path(os.environ["HOUSE_LOG"] + ".lost").exists() or "register" not in NAME
"""
HELPER = """
def text(name, parameters):
    return f"{name} {parameters.amount} {parameters.label}\\n"
"""
# Counts to `amount`, keeps its count in the work folder, and waits for a file before it ends when told to.
TRAIN = """
    done = int((output / "count").read_text()) if (output / "count").exists() else 0
    with open(os.environ["HOUSE_LOG"], "a") as log:
        log.write(f"{NAME} from {done}\\n")
    while done < parameters.amount:
        done += 1
        (output / "count").write_text(str(done))
        progress.update(done, parameters.amount, loss=1 / done, samples_per_second=10.0)
        time.sleep(0.05)
    if parameters.label == "hang":
        time.sleep(60)
    rows = [{"step": step, "total": 1 / step, "action": 0.5 / step} for step in range(1, done + 1)]
    (output / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
"""
TROUBLE = """
    if parameters.label == "user":
        from model.errors import UserError
        raise UserError("label is 'user': choose another")
    if parameters.label == "fault":
        raise RuntimeError("the wheel came off")
    if parameters.label == "full":
        with open("/dev/full", "w") as file:
            file.write("x" * 100000)
    if parameters.label == "killed":
        os.kill(os.getpid(), 9)
"""


class House:
    """A checkout of its own, with a state folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root / "house"
        self.home = root / "home"
        self.log = root / "executed"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LINGBOT_")},
            "LINGBOT_HOME": str(self.home),
            "HOUSE_LOG": str(self.log),
            "PYTHONPATH": str(self.root),
            "OMP_NUM_THREADS": "1",
        }
        self._build()

    def _build(self) -> None:
        from components.steps import STEPS

        for package in ("model", "components", "pipelines"):
            (self.root / package).mkdir(parents=True)
        for name in ("__init__.py", "errors.py", "progress.py", "hardware.py", "yaml_files.py"):
            shutil.copy(CHECKOUT / "model" / name, self.root / "model")
        for path in (CHECKOUT / "components").glob("*.py"):
            shutil.copy(path, self.root / "components")
        shutil.copytree(CHECKOUT / "components/adapters", self.root / "components/adapters")
        ignored = shutil.ignore_patterns("__pycache__", "presets.yaml")
        shutil.copytree(CHECKOUT / "pipelines", self.root / "pipelines", dirs_exist_ok=True, ignore=ignored)
        for step in STEPS.values():
            *_, folder_name, module = step.module.split(".")
            folder = self.root / "components" / folder_name
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").touch()
            (folder / "helper.py").write_text(HELPER)
            shutil.copy(CHECKOUT / "components" / folder_name / "component.py", folder)
            extra = "\n    ".join(f'{name}: str = ""' for name in step.sources)
            body = TRAIN if step.name in TRAINING else TROUBLE
            source = STEP.format(
                name=step.name,
                folder=folder_name,
                inputs=tuple(step.inputs),
                body=body,
                extra=extra,
                summary=SUMMARIES.get(step.name, {}),
            )
            (folder / f"{module}.py").write_text(source + (EFFECTS if step.effects else ""))
        endpoint = self.root / "components/endpoint"
        endpoint.mkdir()
        (endpoint / "__init__.py").touch()
        (endpoint / "check.py").write_text("def check_served(**what):\n    return {'asked': str(what)}\n")
        (self.root / "pipelines/report/__init__.py").write_text(
            "def write_report(run, output):\n    output.write_text(run['id'])\n    return output\n"
        )
        sections = "".join(f"{name}: {{amount: 2, rate: 0.25}}\n" for name in STEPS)
        (self.root / "params.yaml").write_text(f"seed: 7\npreset: demo\n{sections}")
        (self.root / "pipelines/presets.yaml").write_text("debug:\n  pretrain: {amount: 1}\n")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipelines.cli", *arguments]

    def lingbot(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def executed(self) -> list[str]:
        """What the steps wrote since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
