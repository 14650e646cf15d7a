"""The collect step: a small collection, its resumption, and that its bytes depend on the parameters alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.collect import recording, step
from components.collect.recording import demonstrate
from components.collect.step import FIRST_SEED, SCRATCH, Parameters, plan, run
from model.data.lerobot import LeRobotDataset
from model.errors import UserError
from model.progress import Silent
from model.simulation.expert import Expert
from model.simulation.scene import NAMES
from model.simulation.tasks import TASKS
from tests.components.waiting import wait_for
from tests.heard import Heard

REPOSITORY = Path(step.__file__).parents[2]
SMALL = Parameters(episodes=3, image_size=64)


class Watch(Heard):
    def update(self, done: int, total: int, **figures: float) -> None:
        assert figures["episodes_per_second"] > 0
        super().update(done, total)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def collect(folder: Path, parameters: Parameters = SMALL, progress: Silent | None = None) -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    return run({}, folder, parameters, progress or Silent())


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two workers."""
    folder = tmp_path_factory.mktemp("collect") / "dataset"
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "cores", lambda: 2)
        patch.setattr(step, "EPISODES_A_WORKER", 1)
        summary = collect(folder, progress=watch)
    assert watch.messages[0] == "recording 3 episodes with 2 workers"
    assert [done for done, _ in watch.updates] == [1, 2, 3] and watch.updates[-1] == (3, 3)
    assert summary["episodes"] == 3 and summary["failed_attempts"] == {"lift_right": 0, "lift_left": 0}
    assert not (folder / SCRATCH).exists()
    return folder


def test_the_dataset_is_what_the_contract_says(collected: Path) -> None:
    dataset = LeRobotDataset.open(collected)
    assert (dataset.info.version, dataset.info.robot_type, dataset.info.fps) == ("v3.0", "aloha_sim", 10)
    assert dataset.info.state_names == dataset.info.action_names == NAMES
    assert dataset.info.cameras == tuple(
        f"observation.images.{name}" for name in ("cam_high", "cam_left_wrist", "cam_right_wrist")
    )
    assert dataset.has_depth
    for episode, task in enumerate(("lift_right", "lift_left", "lift_right")):
        arrays = dataset.arrays(episode)
        assert arrays.task == TASKS[task].instruction
        assert 30 < len(arrays.state) < 45
        assert np.abs(np.diff(arrays.state[:, :6], axis=0)).max() < 0.5


def test_recorded_actions_are_clean_and_states_are_not(collected: Path) -> None:
    arrays = LeRobotDataset.open(collected).arrays(0)
    assert np.array_equal(arrays.action, Expert("lift_right").plan(FIRST_SEED))
    # The left arm idles: told to stay at home, moved by the noise on what was executed.
    assert np.ptp(arrays.action[:, :7], axis=0).max() == 0
    assert arrays.state[5:, 0].std() > 0.003


def test_the_video_shows_the_scene(collected: Path) -> None:
    """The first frame of the video against a fresh rendering of the scene of that seed."""
    dataset = LeRobotDataset.open(collected)
    first = plan(SMALL, Path("unused"))[1]
    frames = demonstrate(first, first.seeds[0])
    assert frames is not None
    for camera in ("cam_high", "cam_right_wrist"):
        for index in (0, 20):
            (shown,) = dataset.frames(1, f"observation.images.{camera}", [index])
            assert np.abs(shown.astype(int) - frames[index]["images"][camera]).mean() < 3
            (metres,) = dataset.depth(1, f"observation.images.{camera}", [index])
            assert np.abs(metres - frames[index]["depth"][camera]).max() <= 0.000501


def test_one_worker_gives_the_same_bytes(collected: Path, tmp_path: Path) -> None:
    watch = Watch()
    collect(tmp_path / "again", progress=watch)
    assert watch.messages[0] == "recording 3 episodes in this process", "so few are not worth a second process"
    assert digests(tmp_path / "again") == digests(collected)


def test_a_killed_collection_goes_on_where_it_was(collected: Path, tmp_path: Path) -> None:
    """Kill the process (and with it its workers) after the first episode, run again, compare the bytes."""
    folder = tmp_path / "killed"
    folder.mkdir()
    code = (
        "import sys; from pathlib import Path; from components.collect import step\n"
        "from components.collect.step import run, Parameters\n"
        "from model.progress import Silent\n"
        "step.cores, step.EPISODES_A_WORKER = lambda: 2, 1\n"
        "if __name__ == '__main__':\n"
        "    run({}, Path(sys.argv[1]), Parameters(episodes=3, image_size=64), Silent())\n"
    )
    script = tmp_path / "main.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
    )
    wait_for(lambda: list(folder.glob(f"{SCRATCH}/*.json")) or process.poll() is not None, "an episode")
    process.send_signal(signal.SIGKILL)
    process.communicate()  # its workers notice, and end by themselves; they have its output open
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob(f"{SCRATCH}/*.json")}
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta/info.json").write_text("what a join that was killed left")
    watch = Watch()
    collect(folder, progress=watch)
    recorded_before = 3 - len(watch.updates)
    assert recorded_before >= len(before) >= 1
    assert any("there from before" in message for message in watch.messages)
    assert digests(folder) == digests(collected)


def test_failed_demonstrations_are_replaced_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "cores", lambda: 1)
    really = demonstrate

    def fails_on_its_first_scene(job: recording.Recording, seed: int) -> object:
        return None if seed == FIRST_SEED + 1 else really(job, seed)

    monkeypatch.setattr(recording, "demonstrate", fails_on_its_first_scene)
    summary = collect(tmp_path / "one", Parameters(episodes=2, image_size=32, depth=False))
    assert summary["failed_attempts"] == {"lift_right": 0, "lift_left": 1}
    rows = json.loads((tmp_path / "one/meta/collection.json").read_text())["episodes"]
    assert [row["seed"] for row in rows] == [FIRST_SEED, FIRST_SEED + 3]
    assert not LeRobotDataset.open(tmp_path / "one").has_depth


def test_no_two_episodes_share_a_scene_and_none_is_for_evaluation() -> None:
    jobs = plan(Parameters(episodes=50), Path("unused"))
    seeds = [seed for job in jobs for seed in job.seeds]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= FIRST_SEED
    other = {seed for job in plan(Parameters(episodes=50, seed=1), Path("unused")) for seed in job.seeds}
    assert not other & set(seeds)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"robot": "aloha_simm"}, "Did you mean 'aloha_sim'"),
        ({"tasks": ("lift_rigth",)}, "Did you mean 'lift_right'"),
        ({"tasks": ()}, "collect.tasks is empty"),
        ({"tasks": ("lift_right", "transfer_to_right")}, "transfer_to_right, which is held out of training"),
        ({"episodes": 0}, "collect.episodes is 0"),
        ({"fps": 15}, "collect.fps is 15"),
        ({"image_size": 113}, "collect.image_size is 113"),
        ({"action_noise": -1.0}, "collect.action_noise"),
        ({"seed": -1}, "collect.seed is -1"),
    ],
)
def test_wrong_parameters_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Parameters(**values)  # type: ignore[arg-type]
