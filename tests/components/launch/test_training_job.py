"""A training of two processes whose node is taken away in the middle: saved, preempted, resumed, finished."""

import os
import signal
import threading
from pathlib import Path

import pytest

from components.artifacts import SCRATCH
from components.launch.torchrun import members
from components.train import pretrain
from tests.components.training_inputs import training_inputs
from tests.heard import Heard

PARAMETERS = pretrain.Parameters(
    preset="debug",
    horizon=6,
    steps=24,
    batch_size=4,
    draws=2,
    warmup_steps=1,
    save_every=2,
    precision="fp32",
    processes=2,
)


def preempt(output: Path, ended: threading.Event) -> None:
    """SIGTERM to the job's first process, as a node gets it that is taken away, once there is a checkpoint."""
    while not ended.wait(0.02):
        if list(output.glob("checkpoints/*/.complete")):
            (folder,) = (output / SCRATCH / "jobs").iterdir()
            processes = {process.pid: process for process in members(folder)}
            (torchrun,) = (process for process in processes.values() if process.ppid() == os.getpid())
            torchrun.send_signal(signal.SIGTERM)
            return


def train(inputs: dict[str, Path], output: Path, *, preempted: bool) -> list[str]:
    output.mkdir()
    heard, ended = Heard(), threading.Event()
    watching = threading.Thread(target=preempt, args=(output, ended))
    if preempted:
        watching.start()
    try:
        pretrain.run(inputs, output, PARAMETERS, heard)
    finally:
        ended.set()
        if preempted:
            watching.join()
    return heard.messages


@pytest.mark.soak
def test_a_preempted_training_is_resumed_and_finishes(tmp_path: Path) -> None:
    messages = train(training_inputs(tmp_path / "inputs"), tmp_path / "output", preempted=True)
    said = [message for message in messages if message.startswith("attempt")]
    assert len(said) == 2, messages
    assert said[0].startswith("attempt 1: preempted: rank 0 has saved its state")
    assert said[1].startswith("attempt 2: succeeded")
    written = {path.name for path in (tmp_path / "output").iterdir()} - {SCRATCH}
    assert written == {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl"}
