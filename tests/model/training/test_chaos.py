"""A training whose processes are killed (-9) at random moments ends, with the weights of an undisturbed one.

Three kills in processes that are forked ready; twenty under torchrun in `make soak`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from model.training.marker import MARKER
from tests.model.training.chaos import FINAL, Attempt, Chaos, run_with_kills, train_rank
from tests.model.training.processes import run_processes
from tests.model.training.training_runs import different

ROOT = Path(__file__).parents[3]
# What is told first of it: of the rank itself, or by another that talked to it.
OF_A_KILL = ("died with exit code -9", "closed by peer", "reset by peer", "broken pipe", "connection refused")
Start = Callable[[Chaos, Attempt], bool]


def forked(chaos: Chaos, attempt: Attempt) -> bool:
    """When a rank dies, the others are killed, too."""
    try:
        run_processes(train_rank, attempt.size, chaos, attempt, timeout_seconds=1200)
    except AssertionError as error:
        assert any(words in str(error).lower() for words in OF_A_KILL), error
        return False
    return True


def torchrun(chaos: Chaos, attempt: Attempt) -> bool:
    """When a rank dies, torchrun ends the others."""
    arguments = [chaos.folder, chaos.steps, chaos.save_every, attempt.number, attempt.hold]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(attempt.size),
        "-m", "tests.model.training.chaos", *map(str, arguments),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    with (chaos.folder / f"attempt-{attempt.number}.log").open("w") as log:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=600, check=False
        )
    return done.returncode == 0


def train(chaos: Chaos, start: Start, sizes: Sequence[int]) -> dict[str, Tensor]:
    chaos.folder.mkdir()
    run_with_kills(chaos, sizes, lambda attempt: start(chaos, attempt), seed=len(sizes))
    return load_file(chaos.folder / FINAL)


def check(tmp_path: Path, start: Start, steps: int, save_every: int, kills: int, changing: int) -> None:
    undisturbed = Chaos(tmp_path / "undisturbed", steps, save_every)
    wanted = train(undisturbed, forked, [4])

    killed = Chaos(tmp_path / "killed", steps, save_every)
    assert different(wanted, train(killed, start, [4] * (kills + 1))) == []
    figures = [(chaos.folder / "metrics.jsonl").read_text() for chaos in (undisturbed, killed)]
    assert figures[0] == figures[1]
    assert all((checkpoint / MARKER).is_file() for checkpoint in (killed.folder / "checkpoints").iterdir())

    changed = train(Chaos(tmp_path / "changed", steps, save_every), start, [2, 4] * (changing // 2) + [2])
    apart = sum((wanted[name] - changed[name]).square().sum() for name in wanted)
    length = sum(weight.square().sum() for weight in wanted.values())
    assert apart < 1e-10 * length  # sums over two and over four ranks round differently


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    """To the bit with four ranks all along; nearly, where two and four of them take turns."""
    check(tmp_path, forked, steps=6, save_every=2, kills=3, changing=2)


@pytest.mark.soak
def test_a_training_that_is_killed_twenty_times_under_torchrun_ends_with_the_same_weights(tmp_path: Path) -> None:
    check(tmp_path, torchrun, steps=50, save_every=2, kills=20, changing=20)
