"""The step `extract_depth_tokens` on a dataset with depth that the project's own writer made."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from components.extract_depth_tokens import step
from model.data.lerobot import LeRobotDataset
from model.data.lerobot_writer import LeRobotWriter
from model.depth.store import TokenStore
from model.depth.teacher import seeded_teacher
from model.errors import UserError
from model.progress import Silent
from model.robots import load_robot

ALOHA = load_robot("aloha_sim")
CAMERAS = tuple(ALOHA.cameras.values())
LENGTH, SIZE = 6, 56
PARAMETERS = step.Parameters(image_size=56, num_tokens=16, episodes_per_shard=2)


def write_dataset(root: Path, *, depth: bool = True, far: float = 1.0) -> Path:
    """Five episodes of six frames; noise seen from three cameras. `far` scales the depth."""
    writer = LeRobotWriter(
        root, fps=10, robot_type="aloha_sim", state_names=ALOHA.state_names, action_names=ALOHA.action_names,
        cameras=dict.fromkeys(CAMERAS, (SIZE, SIZE)), depth=depth,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(5):
        values = rng.normal(size=(LENGTH, 14)).astype(np.float32)
        metres = {name: far * rng.uniform(0.3, 1.5, (LENGTH, SIZE, SIZE)).astype(np.float32) for name in CAMERAS}
        writer.add_episode(
            task="lift the cube with the right arm", state=values, action=values, eef_pose=values,
            images={name: rng.integers(0, 256, (LENGTH, SIZE, SIZE, 3)).astype(np.uint8) for name in CAMERAS},
            depth=metres if depth else None,
        )  # fmt: skip
    writer.finish()
    return root


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("extract")
    (root / "verdict").mkdir()
    (root / "verdict/quarantine.yaml").write_text("- {episode: 1, rule: frozen_frames, evidence: {camera: cam_high}}\n")
    return {"dataset": write_dataset(root / "dataset"), "verdict": root / "verdict"}


@pytest.fixture(scope="module")
def made(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("tokens")
    return output, step.extract_tokens(inputs, output, PARAMETERS, Silent(), workers=1)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_stored_tokens_are_the_teachers(inputs: dict[str, Path], made: tuple[Path, dict]) -> None:
    output, summary = made
    store, teacher = TokenStore.open(output), seeded_teacher("demo", 0)
    assert summary["available"] and summary["frames"] == len(store) == 4 * LENGTH
    assert store.cameras == CAMERAS and (store.tokens_per_view, store.channels) == (16, 192)
    assert store.facts["teacher"]["seeded_stand_in"] and "not LingBot-Depth" in summary["teacher_source"]
    dataset = LeRobotDataset.open(inputs["dataset"])
    tokens, mask = store.read(np.array([4, 0]), np.array([2, 5]))
    assert mask.all()
    for item, (episode, frame) in enumerate(((4, 2), (0, 5))):
        for view, camera in enumerate(CAMERAS):
            image, metres = (next(iter(read(episode, camera, [frame]))) for read in (dataset.frames, dataset.depth))
            wanted = teacher.tokens(image[None], metres[None], PARAMETERS.preprocessing())[0]
            assert np.linalg.norm(tokens[item, view] - wanted) < 0.01 * np.linalg.norm(wanted)
    assert 0 < summary["relative_l2_against_bf16"] < 0.01 and summary["cosine_against_bf16"] > 0.9999


def test_quarantined_episodes_are_left_out(made: tuple[Path, dict]) -> None:
    tokens, mask = TokenStore.open(made[0]).read(np.array([1, 1, 0]), np.array([0, 5, 6]))
    assert not mask.any() and not tokens.any()


@pytest.mark.slow
def test_two_processes_make_the_same_bytes(inputs: dict[str, Path], made: tuple[Path, dict], tmp_path: Path) -> None:
    assert step.extract_tokens(inputs, tmp_path, PARAMETERS, Silent(), workers=2) == made[1]
    assert digests(tmp_path) == digests(made[0])


def test_a_killed_attempt_goes_on_from_its_shards(
    inputs: dict[str, Path], made: tuple[Path, dict], tmp_path: Path
) -> None:
    step.extract_tokens(inputs, tmp_path, PARAMETERS, Silent(), workers=1)
    (tmp_path / "store.json").unlink()
    (tmp_path / "shards/000002-000003.safetensors").unlink()
    (tmp_path / ".scratch").mkdir()
    (tmp_path / ".scratch/000002-000003.safetensors.partial").write_bytes(b"half a shard")
    kept = tmp_path / "shards/000000-000001.safetensors"
    before = kept.stat().st_mtime_ns
    messages: list[str] = []

    class Progress(Silent):
        def message(self, text: str) -> None:
            messages.append(text)

    step.extract_tokens(inputs, tmp_path, PARAMETERS, Progress(), workers=1)
    assert digests(tmp_path) == digests(made[0])
    assert kept.stat().st_mtime_ns == before
    assert "12 of 24 frames were extracted by an earlier attempt" in messages


def test_a_lower_rate_takes_the_frames_that_packing_takes(inputs: dict[str, Path], tmp_path: Path) -> None:
    slow = step.Parameters(image_size=56, num_tokens=16, rate=4.0, episodes_per_shard=50, codec="bf16")
    summary = step.extract_tokens(inputs, tmp_path, slow, Silent(), workers=1)
    store = TokenStore.open(tmp_path)
    assert store.has(np.zeros(LENGTH, int), np.arange(LENGTH)).tolist() == [True, False] * 3
    assert summary["rate"] == 5.0 and summary["relative_l2_against_bf16"] == 0.0


def test_without_depth_there_is_only_the_reason(inputs: dict[str, Path], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", depth=False)
    (tmp_path / "tokens").mkdir()
    summary = step.run(inputs | {"dataset": dataset}, tmp_path / "tokens", PARAMETERS, Silent())
    assert summary == {"available": False, "reason": "the dataset has no depth for the cameras of robot 'aloha_sim'"}
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["store.json"]
    assert TokenStore.open(tmp_path / "tokens").reason == summary["reason"]


def test_an_episode_without_depth_is_masked(inputs: dict[str, Path], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    lost = next((dataset / "depth/observation.images.cam_left_wrist").rglob("episode_000002.mkv"))
    lost.unlink()
    (tmp_path / "tokens").mkdir()
    summary = step.extract_tokens(inputs | {"dataset": dataset}, tmp_path / "tokens", PARAMETERS, Silent(), workers=1)
    assert summary["views_without_depth"] == LENGTH
    _, mask = TokenStore.open(tmp_path / "tokens").read(np.array([2, 3]), np.array([0, 0]))
    assert mask.tolist() == [[True, False, True], [True, True, True]]


@pytest.mark.parametrize(
    ("far", "message"),
    [
        (0.0, "camera 'observation.images.cam_high' declares depth, but no frame has a valid pixel"),
        (1000.0, "depth of episode 0 frame 0, camera 'cam_high' has a median of .* looks like millimetres"),
    ],
)
def test_depth_that_cannot_be_metres_is_refused(
    inputs: dict[str, Path], tmp_path: Path, far: float, message: str
) -> None:
    dataset = write_dataset(tmp_path / "dataset", far=far)
    with pytest.raises(UserError, match=message):
        step.extract_tokens(inputs | {"dataset": dataset}, tmp_path, PARAMETERS, Silent(), workers=1)


def test_what_a_user_gets_wrong(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown token codec 'int9'.*Did you mean 'int8'"):
        step.Parameters(codec="int9")
    with pytest.raises(UserError, match="rate is 0.0"):
        step.Parameters(rate=0.0)
    with pytest.raises(UserError, match="depth checkpoint .*gone.pt does not exist"):
        step.run(inputs, tmp_path, step.Parameters(checkpoint=str(tmp_path / "gone.pt")), Silent())
    with pytest.raises(UserError, match="num_tokens is 60"):
        step.run(inputs, tmp_path, step.Parameters(num_tokens=60), Silent())
    (tmp_path / "quarantine.yaml").write_text(json.dumps([{"episode": number} for number in range(5)]))
    with pytest.raises(UserError, match="all 5 episodes are quarantined"):
        step.run(inputs | {"verdict": tmp_path}, tmp_path, PARAMETERS, Silent())
