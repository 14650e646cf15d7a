"""The step `pack` on a dataset that the project's own writer made, through real video and Parquet."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from components.pack import step
from model.data.annotations import write_annotations
from model.data.lerobot_writer import LeRobotWriter
from model.data.packed import PackedDataset
from model.errors import UserError
from model.progress import Silent
from model.robots import load_robot

ALOHA = load_robot("aloha_sim")
LENGTH = 12


def picture(episode: int, view: int, frame: int) -> np.ndarray:
    """One brightness a frame: far enough apart to survive two lossy codecs."""
    return np.full((32, 48, 3), 40 + 60 * view + 5 * frame + 20 * (episode % 2), np.uint8)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pack")
    cameras = tuple(ALOHA.cameras.values())
    writer = LeRobotWriter(
        root / "dataset", fps=10, robot_type="aloha_sim", state_names=ALOHA.state_names,
        action_names=ALOHA.action_names, cameras=dict.fromkeys(cameras, (32, 48)), depth=False,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for episode in range(4):
        state = rng.normal(size=(LENGTH, 14)).astype(np.float32)
        action = state + 0.1
        action[:, [6, 13]] = 1.0
        action[6:, 13] = 0.0
        writer.add_episode(
            task=("lift the cube with the right arm", "lift the cube with the left arm")[episode % 2],
            state=state, action=action, eef_pose=np.full((LENGTH, 14), episode, np.float32),
            images={
                name: np.stack([picture(episode, view, frame) for frame in range(LENGTH)])
                for view, name in enumerate(cameras)
            },
        )  # fmt: skip
    writer.finish()
    (root / "verdict").mkdir()
    (root / "verdict/quarantine.yaml").write_text("- {episode: 1, rule: frozen_frames, evidence: {camera: cam_high}}\n")
    (root / "annotations").mkdir()
    row = {
        "episode": 0, "start": 2, "end": 6, "atomic_action": "reach", "arm": "right", "task": "lift the cube",
        "sub_task": "move the right arm to the cube", "source": "template", "confidence": 0.9,
        "review_state": "unreviewed",
    }  # fmt: skip
    write_annotations(root / "annotations", [row])
    return {name: root / name for name in step.INPUTS}


@pytest.fixture(scope="module")
def output(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    step.run(inputs, folder, step.Parameters(image_size=32, holdout_fraction=0.3), Silent())
    return folder


def test_quarantine_and_annotations_are_applied(output: Path) -> None:
    packed = PackedDataset.open(output)
    assert sorted(set(packed.frames["episode"])) == [0, 2, 3]
    assert packed.meta.sub_tasks == ("move the right arm to the cube",)
    assert packed.frames["sub_task"][:8].tolist() == [-1, -1, 0, 0, 0, 0, -1, -1]
    assert packed.meta.task_texts == ("lift the cube",), "what was annotated for the whole episode"
    assert packed.batch(np.array([0, 7, len(packed) - 1]), 1)["task_text"].tolist() == [0, 0, -1]


def test_images_states_and_goals_are_those_of_the_dataset(inputs: dict[str, Path], output: Path) -> None:
    from model.data.lerobot import LeRobotDataset

    dataset = LeRobotDataset.open(inputs["dataset"])
    packed = PackedDataset.open(output)
    batch = packed.batch(np.arange(len(packed)), 3)
    for row, (episode, frame) in enumerate(zip(batch["episode"], batch["frame"], strict=True)):
        for view in range(3):
            shown = picture(int(episode), view, int(frame))[0, 0].astype(int)
            assert np.abs(batch["images"][row, view].astype(int) - shown).max() <= 3
        arrays = dataset.arrays(int(episode))
        assert (batch["state"][row] == arrays.state[frame]).all()
        assert batch["goal_mask"][row] == (frame < 6)
        assert (batch["goal"][row] == (episode if frame < 6 else 0)).all()


def test_summary_counts(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = step.run(inputs, tmp_path, step.Parameters(image_size=32, rate=5), Silent())
    assert (summary["episodes"], summary["quarantined"], summary["steps"], summary["frames"]) == (3, 1, 36, 18)
    assert summary["hours"] == pytest.approx(36 / 10 / 3600, abs=1e-4)
    assert summary["robot"] == "aloha_sim" and summary["cameras"][0] == "cam_high" and summary["has_goal"]
    assert summary["tasks"] == ["lift the cube with the left arm", "lift the cube with the right arm"]
    assert not (tmp_path / ".scratch").exists()


def test_a_second_run_gives_the_same_bytes(inputs: dict[str, Path], output: Path, tmp_path: Path) -> None:
    step.run(inputs, tmp_path, step.Parameters(image_size=32, holdout_fraction=0.3), Silent())
    for path in output.iterdir():
        assert (
            hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((tmp_path / path.name).read_bytes()).digest()
        )


def test_progress_counts_frames_and_tells_their_rate(inputs: dict[str, Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []

    class Watch(Silent):
        def update(self, done: int, total: int, **figures: float) -> None:
            seen.append((done, total, figures))

    step.run(inputs, tmp_path, step.Parameters(image_size=32), Watch())
    assert [done for done, _, _ in seen] == [12, 24, 36] and {total for _, total, _ in seen} == {36}
    assert seen[-1][2]["frames_per_second"] > 0


def test_an_unreadable_episode_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "dataset"
    shutil.copytree(inputs["dataset"], broken)
    for video in broken.glob("videos/*left_wrist*/**/*.mp4"):
        video.unlink()
    with pytest.raises(UserError, match="cam_left_wrist.*missing"):
        step.run(inputs | {"dataset": broken}, tmp_path, step.Parameters(image_size=32), Silent())
