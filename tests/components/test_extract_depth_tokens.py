"""The step `extract_depth_tokens` on a dataset with depth that the project's own writer made."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.extract_depth_tokens import step
from model.data.lerobot import LeRobotDataset
from model.data.lerobot_writer import LeRobotWriter
from model.depth.merge import merge_stores
from model.depth.monocular import load_estimator
from model.depth.store import TokenStore
from model.depth.teacher import seeded_teacher
from model.errors import UserError
from model.progress import Silent
from model.robots import load_robot
from tests.heard import Heard
from tests.model.depth.test_depth_sources import save_depth_model

ALOHA = load_robot("aloha_sim")
CAMERAS = tuple(ALOHA.cameras.values())
LENGTH, SIZE = 6, 56
PARAMETERS = step.Parameters(image_size=56, num_tokens=16, episodes_per_shard=2)


def write_dataset(root: Path, *, depth: bool = True, far: float = 1.0, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    """Five episodes of six frames; noise seen from three cameras. `far` scales the depth."""
    writer = LeRobotWriter(
        root, fps=10, robot_type="aloha_sim", state_names=ALOHA.state_names, action_names=ALOHA.action_names,
        cameras=dict.fromkeys(CAMERAS, size), depth=depth,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(5):
        values = rng.normal(size=(LENGTH, 14)).astype(np.float32)
        metres = {name: far * rng.uniform(0.3, 1.5, (LENGTH, *size)).astype(np.float32) for name in CAMERAS}
        writer.add_episode(
            task="lift the cube with the right arm", state=values, action=values, eef_pose=values,
            images={name: rng.integers(0, 256, (LENGTH, *size, 3)).astype(np.uint8) for name in CAMERAS},
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


def test_parts_of_a_cluster_join_into_the_same_store(
    inputs: dict[str, Path], made: tuple[Path, dict], tmp_path: Path
) -> None:
    for index in range(2):
        part = replace(PARAMETERS, shard_index=index, shard_count=2)
        summary = step.extract_tokens(inputs, tmp_path / str(index), part, Silent(), workers=1)
        assert summary["frames"] == (6, 18)[index]
    with pytest.raises(UserError, match="shard_count is 4, but the usable episodes make 3 shards"):
        step.extract_tokens(inputs, tmp_path / "4", replace(PARAMETERS, shard_count=4), Silent(), workers=1)
    merge_stores(tmp_path / "joined", [tmp_path / "1", tmp_path / "0"])
    assert digests(tmp_path / "joined") == digests(made[0])


def test_tokens_of_principal_components_and_their_basis(inputs: dict[str, Path], tmp_path: Path) -> None:
    parameters = replace(PARAMETERS, codec="pca128-int8", basis_frames=16)
    summary = step.extract_tokens(inputs, tmp_path / "a", parameters, Silent(), workers=1)
    store = TokenStore.open(tmp_path / "a")
    assert store.facts["basis_digest"] and 0 < summary["relative_l2_against_bf16"] < 0.5
    for entry in store.facts["shards"]:
        assert 0.9 < entry["error_against_bf16"]["cosine"] < 1 and entry["error_against_bf16"]["relative_l2"] > 0.001
    exact, mask = TokenStore.open(_exact(inputs, tmp_path)).read(np.array([4, 0]), np.array([2, 5]))
    read, _ = store.read(np.array([4, 0]), np.array([2, 5]))
    cosine = (read * exact).sum(-1) / np.linalg.norm(read, axis=-1) / np.linalg.norm(exact, axis=-1)
    assert mask.all() and cosine.mean() == pytest.approx(summary["cosine_against_bf16"], abs=0.02)


def test_an_attempt_that_goes_on_keeps_its_basis(inputs: dict[str, Path], tmp_path: Path) -> None:
    parameters = replace(PARAMETERS, codec="pca128-int8", basis_frames=16)
    step.extract_tokens(inputs, tmp_path, parameters, Silent(), workers=1)
    before = digests(tmp_path)
    stamp = (tmp_path / "basis.safetensors").stat().st_mtime_ns
    (tmp_path / "store.json").unlink()
    (tmp_path / "shards/000002-000003.safetensors").unlink()
    step.extract_tokens(inputs, tmp_path, parameters, Silent(), workers=1)
    assert digests(tmp_path) == before and (tmp_path / "basis.safetensors").stat().st_mtime_ns == stamp


def _exact(inputs: dict[str, Path], tmp_path: Path) -> Path:
    step.extract_tokens(inputs, tmp_path / "exact", replace(PARAMETERS, codec="bf16"), Silent(), workers=1)
    return tmp_path / "exact"


def test_other_weights_are_extracted_again_and_named(
    inputs: dict[str, Path], made: tuple[Path, dict], tmp_path: Path
) -> None:
    step.extract_tokens(inputs, tmp_path, PARAMETERS, Silent(), workers=1)
    other = replace(PARAMETERS, teacher_seed=1)
    step.extract_tokens(inputs, tmp_path, other, Silent(), workers=1)
    wanted = seeded_teacher("demo", 1).weights_digest()
    assert TokenStore.open(tmp_path, weights_digest=wanted).weights_digest == wanted
    with pytest.raises(UserError, match=f"holds tokens of the weights .*, {wanted[:12]} is asked for"):
        TokenStore.open(made[0], weights_digest=wanted)


def test_monocular_depth_needs_no_recorded_depth_and_is_another_key(
    inputs: dict[str, Path], made: tuple[Path, dict], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", depth=False)
    model = save_depth_model(tmp_path / "model")
    parameters = replace(PARAMETERS, depth_source="monocular", depth_model=str(model))
    output = tmp_path / "tokens"
    summary = step.extract_tokens(inputs | {"dataset": dataset}, output, parameters, Silent(), workers=1)
    store = TokenStore.open(output)
    assert summary["depth_source"] == "monocular" and len(store) == 24 and summary["views_without_depth"] == 0
    assert store.preprocessing_digest != TokenStore.open(made[0]).preprocessing_digest
    estimate, version = load_estimator(str(model))
    assert store.facts["preprocessing"]["depth_version"] == version
    image = next(iter(LeRobotDataset.open(dataset).frames(3, CAMERAS[1], [4])))[None]
    wanted = seeded_teacher("demo", 0).tokens(image, estimate(image), parameters.preprocessing())[0]
    tokens, _ = store.read(np.array([3]), np.array([4]))
    assert np.linalg.norm(tokens[0, 1] - wanted) < 0.01 * np.linalg.norm(wanted)


def test_recorded_depth_that_is_asked_for_and_missing_is_an_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", depth=False)
    with pytest.raises(UserError, match="the depth source is 'sensor', but the dataset has no depth for the cameras"):
        step.run(inputs | {"dataset": dataset}, tmp_path, replace(PARAMETERS, depth_source="sensor"), Silent())


def test_frames_that_are_not_square_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", size=(48, 64))
    (tmp_path / "a").mkdir()
    message = "episode 0 frame 0, camera 'cam_high': frames of 64x48 pixels are not square: .* 14 x 18 = 252 tokens"
    wide = step.Parameters(image_size=224, num_tokens=256)
    with pytest.raises(UserError, match=message):
        step.extract_tokens(inputs | {"dataset": dataset}, tmp_path / "a", wide, Silent(), workers=1)
    squash = replace(PARAMETERS, aspect="squash")
    step.extract_tokens(inputs | {"dataset": dataset}, tmp_path / "a", squash, Silent(), workers=1)
    assert TokenStore.open(tmp_path / "a", tokens_per_view=16).tokens_per_view == 16


def test_progress_says_frames_a_second_and_the_time_left(inputs: dict[str, Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []

    class Progress(Silent):
        def update(self, done: int, total: int, **figures: float) -> None:
            seen.append((done, total, figures))

    step.extract_tokens(inputs, tmp_path, PARAMETERS, Progress(), workers=1)
    assert [done for done, _, _ in seen] == [6, 12, 18, 24], "after every batch"
    assert all(figures["frames_per_second"] > 0 for _, _, figures in seen)
    assert seen[0][2]["seconds_left"] > seen[-1][2]["seconds_left"] == 0


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
    heard = Heard()
    step.extract_tokens(inputs, tmp_path, PARAMETERS, heard, workers=1)
    assert digests(tmp_path) == digests(made[0])
    assert kept.stat().st_mtime_ns == before
    assert "12 of 24 frames were extracted by an earlier attempt" in heard.messages


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
    with pytest.raises(UserError, match="unknown depth source 'sensr'.*Did you mean 'sensor'"):
        step.Parameters(depth_source="sensr")
    with pytest.raises(UserError, match="depth_model is given, but depth_source is 'auto'"):
        step.Parameters(depth_model="somewhere")
    with pytest.raises(UserError, match="shard_index is 3 of shard_count 3: parts count from 0 to 2"):
        step.Parameters(shard_index=3, shard_count=3)
    with pytest.raises(UserError, match="rate is 0.0"):
        step.Parameters(rate=0.0)
    with pytest.raises(UserError, match="depth checkpoint .*gone.pt does not exist"):
        step.run(inputs, tmp_path, step.Parameters(checkpoint=str(tmp_path / "gone.pt")), Silent())
    with pytest.raises(UserError, match="num_tokens is 60"):
        step.run(inputs, tmp_path, step.Parameters(num_tokens=60), Silent())
    (tmp_path / "quarantine.yaml").write_text(json.dumps([{"episode": number} for number in range(5)]))
    with pytest.raises(UserError, match="all 5 episodes are quarantined"):
        step.run(inputs | {"verdict": tmp_path}, tmp_path, PARAMETERS, Silent())
