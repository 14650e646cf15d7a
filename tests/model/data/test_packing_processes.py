"""Packing in processes: equal bytes whatever their number, and after kill -9, from real videos and tables."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.data.lerobot import LeRobotDataset
from model.data.lerobot_writer import LeRobotWriter
from model.data.packed import PackedDataset
from model.data.packing import SCRATCH, pack
from model.data.packing_plan import PackingSettings
from model.data.packing_tables import Segment
from model.progress import Silent
from model.robots import load_robot
from tests.heard import Heard

ALOHA = load_robot("aloha_sim")
SEGMENTS = {0: [Segment(start=2, end=6, sub_task="move the right arm to the cube")]}
EPISODES, LENGTH = 5, 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    root = tmp_path_factory.mktemp("dataset") / "set"
    writer = LeRobotWriter(
        root, fps=10, robot_type="aloha_sim", state_names=ALOHA.state_names, action_names=ALOHA.action_names,
        cameras=dict.fromkeys(ALOHA.cameras.values(), (32, 48)), depth=False,
    )  # fmt: skip
    random = np.random.default_rng(0)
    for _ in range(EPISODES):
        motion = random.normal(size=(LENGTH, 14)).astype(np.float32)
        images = {name: random.integers(0, 256, (LENGTH, 32, 48, 3), np.uint8) for name in ALOHA.cameras.values()}
        writer.add_episode(task="lift the cube", state=motion, action=motion, eef_pose=motion, images=images)
    writer.finish()
    return LeRobotDataset.open(root)


def packed(dataset: LeRobotDataset, output: Path, workers: int, codec: str, progress: Silent | None = None) -> None:
    """Episode 3 is quarantined, episode 0 annotated."""
    output.mkdir(exist_ok=True)
    pack(
        dataset, ALOHA, output, PackingSettings(image_size=32, codec=codec, holdout_fraction=0.3),
        quarantined=frozenset({3}), segments=SEGMENTS, progress=progress or Silent(), workers=workers,
    )  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_the_number_of_workers_does_not_change_a_byte(dataset: LeRobotDataset, tmp_path: Path, codec: str) -> None:
    for workers in (1, 3):
        packed(dataset, tmp_path / str(workers), workers, codec)
    assert digests(tmp_path / "1") == digests(tmp_path / "3")
    assert sorted(set(PackedDataset.open(tmp_path / "3").frames["episode"])) == [0, 1, 2, 4]


KILLED = """
import os, signal, sys
from pathlib import Path
from model.data.lerobot import LeRobotDataset
from model.progress import Silent
from tests.model.data.test_packing_processes import packed

class KillAfterTwo(Silent):
    def update(self, done, total, **figures):
        if done >= {frames}:
            os.kill(os.getpid(), signal.SIGKILL)

packed(LeRobotDataset.open(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "jpeg", KillAfterTwo())
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_packing_goes_on_to_the_same_bytes(dataset: LeRobotDataset, tmp_path: Path, workers: int) -> None:
    output = tmp_path / "killed"
    script = KILLED.format(frames=2 * LENGTH)
    # Its workers notice, and end by themselves; they have its output open, so `run` waits for them too.
    command = [sys.executable, "-c", script, dataset.root, output, str(workers)]
    killed = subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=240)
    assert killed.returncode == -signal.SIGKILL
    before = len(list((output / SCRATCH).rglob("*.npy")))
    assert before >= 2 and not (output / "meta.json").exists()
    whole = sorted((output / SCRATCH).rglob("*.bin"))
    whole[0].write_bytes(whole[0].read_bytes()[:-1])  # what a crash of the machine may leave of a finished episode

    heard = Heard()
    packed(dataset, output, 1, "jpeg", heard)
    assert [int(text.split()[0]) for text in heard.messages if "earlier attempt" in text] == [before - 1]
    packed(dataset, tmp_path / "fresh", 1, "jpeg")
    assert digests(output) == digests(tmp_path / "fresh")
    assert not (output / SCRATCH).exists()
