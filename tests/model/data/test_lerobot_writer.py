"""The writer of LeRobot v3.0: what it wrote is what was given, laid out as lerobot 0.4.4 lays it out."""

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import lerobot_staging, lerobot_writer
from model.data.lerobot import LeRobotDataset
from model.data.lerobot_staging import column_stats, image_stats, stage_episode
from model.data.lerobot_writer import LeRobotWriter
from model.errors import UserError

NAMES = tuple(f"joint_{index}" for index in range(14))
CAMERAS = {"cam_high": (32, 48), "cam_left_wrist": (32, 32)}
TASKS = ("lift it", "drop it")
FPS = 10


def recording(episode: int, length: int, depth: bool = True) -> dict[str, Any]:
    """An episode whose every number and picture tells where it belongs: smooth pictures, so that h264 keeps them."""
    rng = np.random.default_rng(episode)
    images, metres = {}, {}
    for camera, (height, width) in CAMERAS.items():
        ramp = np.linspace(0, 100, width)[None, :, None] * np.ones((height, 1, 3))
        images[camera] = np.stack([(ramp + 20 * episode + 3 * frame).astype(np.uint8) for frame in range(length)])
        metres[camera] = rng.uniform(0, 4, size=(length, height, width)).astype(np.float32)
        metres[camera][:, 0] = 0.0
    return {
        "task": TASKS[episode % 2],
        "state": rng.normal(size=(length, 14)),
        "action": rng.normal(size=(length, 14)),
        "eef_pose": rng.normal(size=(length, 14)),
        "images": images,
        "depth": metres if depth else None,
    }


def writer(root: Path, depth: bool = True) -> LeRobotWriter:
    return LeRobotWriter(
        root, fps=FPS, robot_type="aloha_sim", state_names=NAMES, action_names=NAMES, cameras=CAMERAS, depth=depth
    )


LENGTHS = (12, 7, 15)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "dataset"
    made = writer(folder)
    for episode, length in enumerate(LENGTHS):
        assert made.add_episode(**recording(episode, length)) == episode
    made.finish()
    return folder


def test_numbers_come_back_exactly(root: Path) -> None:
    dataset = LeRobotDataset.open(root)
    assert [episode.length for episode in dataset.episodes] == list(LENGTHS)
    for episode, length in enumerate(LENGTHS):
        given, arrays = recording(episode, length), dataset.arrays(episode)
        assert arrays.task == given["task"]
        assert np.array_equal(arrays.state, given["state"].astype(np.float32))
        assert np.array_equal(arrays.action, given["action"].astype(np.float32))
        assert np.array_equal(arrays.eef_pose, given["eef_pose"].astype(np.float32))
        assert np.array_equal(arrays.timestamp.astype(np.float32), (np.arange(length) / FPS).astype(np.float32))


@pytest.mark.parametrize("camera", CAMERAS)
def test_frames_come_back_in_their_place(root: Path, camera: str) -> None:
    dataset = LeRobotDataset.open(root)
    key = f"observation.images.{camera}"
    for episode, length in enumerate(LENGTHS):
        given = recording(episode, length)
        frames = np.stack(list(dataset.frames(episode, key)))
        assert np.abs(frames.astype(int) - given["images"][camera]).mean() < 1.5  # a neighbour frame is 3 away
        depth = np.stack(list(dataset.depth(episode, key)))
        assert np.abs(depth - given["depth"][camera]).max() <= 0.000501
        assert (depth[:, 0] == 0).all()


def test_the_layout_is_that_of_lerobot(root: Path, shared: Path) -> None:
    """Against a dataset written by lerobot 0.4.4: the same keys of info, columns of episodes, tasks and statistics."""
    theirs = shared / "datasets" / "aloha_sim_insertion_3cam_224"
    extra_of_theirs = ("observation.velocity", "next.", "cam_right_wrist")
    extra_of_ours = ("observation.eef_pose",)

    def names(found: Any, extra: tuple[str, ...]) -> set[str]:
        return {name for name in found if not any(part in name for part in extra)}

    def info(folder: Path) -> dict[str, Any]:
        return json.loads((folder / "meta/info.json").read_text())

    assert info(root).keys() == info(theirs).keys()
    high = "observation.images.cam_high"
    assert info(root)["features"][high].keys() == info(theirs)["features"][high].keys()
    for file, where in [("meta/episodes/chunk-000/file-000.parquet", 0), ("data/chunk-000/file-000.parquet", 0)]:
        ours_schema, their_schema = pq.read_schema(root / file), pq.read_schema(theirs / file)
        assert names(ours_schema.names, extra_of_ours) == names(their_schema.names, extra_of_theirs), where
        for name in names(ours_schema.names, extra_of_ours):
            assert ours_schema.field(name).type == their_schema.field(name).type, name
    ours_tasks, their_tasks = (pq.read_table(folder / "meta/tasks.parquet") for folder in (root, theirs))
    assert ours_tasks.column_names == their_tasks.column_names
    ours_stats, their_stats = (json.loads((folder / "meta/stats.json").read_text()) for folder in (root, theirs))
    assert names(ours_stats, extra_of_ours) == names(their_stats, extra_of_theirs)
    assert set(ours_stats[high]) == set(their_stats[high])
    assert np.shape(ours_stats[high]["mean"]) == np.shape(their_stats[high]["mean"]) == (3, 1, 1)


def test_tasks_are_the_index_of_a_pandas_table(root: Path) -> None:
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pandas()
    assert list(tasks.index) == list(TASKS)
    assert list(tasks["task_index"]) == [0, 1]


def test_episodes_share_one_video_and_begin_at_key_frames(root: Path) -> None:
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    key = "videos/observation.images.cam_high"
    starts = [row[f"{key}/from_timestamp"] for row in rows]
    assert starts == [0.0, 1.2, 1.9]
    assert [row[f"{key}/to_timestamp"] for row in rows] == [1.2, 1.9, 3.4]
    files = list((root / "videos").rglob("*.mp4"))
    assert len(files) == len(CAMERAS)
    for file in files:
        with av.open(str(file)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        times = [float(packet.pts * packet.time_base) for packet in packets]
        assert times == pytest.approx([index / FPS for index in range(sum(LENGTHS))], abs=1e-9)
        assert set(starts) <= {time for time, packet in zip(times, packets, strict=True) if packet.is_keyframe}


def test_statistics_are_those_of_all_frames(root: Path) -> None:
    stats = json.loads((root / "meta/stats.json").read_text())
    state = np.concatenate([recording(episode, length)["state"] for episode, length in enumerate(LENGTHS)])
    assert np.allclose(stats["observation.state"]["mean"], state.mean(axis=0), atol=1e-6)
    assert np.allclose(stats["observation.state"]["std"], state.std(axis=0), atol=1e-6)
    assert np.allclose(stats["observation.state"]["max"], state.max(axis=0), atol=1e-6)
    assert stats["observation.state"]["count"] == [sum(LENGTHS)]
    images = np.concatenate([recording(e, n)["images"]["cam_high"].reshape(-1, 3) for e, n in enumerate(LENGTHS)])
    assert np.allclose(np.ravel(stats["observation.images.cam_high"]["mean"]), images.mean(axis=0) / 255, atol=1e-9)
    assert np.allclose(np.ravel(stats["observation.images.cam_high"]["std"]), images.std(axis=0) / 255, atol=1e-9)


@given(st.lists(st.integers(0, 255), min_size=3, max_size=60))
@settings(max_examples=50, deadline=None)
def test_image_statistics_are_exact(values: list[int]) -> None:
    pixels = np.array(values[: len(values) // 3 * 3], np.uint8).reshape(1, -1, 1, 3)
    found = image_stats(pixels)
    plain = pixels.reshape(-1, 3) / 255
    assert np.allclose(np.ravel(found["mean"]), plain.mean(axis=0))
    assert np.allclose(np.ravel(found["std"]), plain.std(axis=0), atol=1e-7)
    assert np.allclose(np.ravel(found["min"]), plain.min(axis=0))
    # The q-quantile: the smallest value with at least that share of the pixels at or below it.
    for name, q in (("q10", 0.1), ("q50", 0.5), ("q99", 0.99)):
        expected = np.quantile(plain, q, axis=0, method="inverted_cdf")
        assert np.allclose(np.ravel(found[name]), expected), name


def test_column_statistics_keep_integers() -> None:
    found = column_stats(np.arange(5))
    assert found["min"] == [0] and found["max"] == [4] and found["mean"] == [2.0] and found["count"] == [5]
    assert isinstance(found["max"][0], int)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_equal_episodes_give_equal_bytes(root: Path, tmp_path: Path) -> None:
    made = writer(tmp_path / "again")
    for episode, length in enumerate(LENGTHS):
        made.add_episode(**recording(episode, length))
    made.finish()
    assert digests(tmp_path / "again") == digests(root)


@pytest.mark.parametrize(("limit", "value"), [("VIDEO_FILE_MB", 0.0), ("VIDEO_FILE_SECONDS", 1.5)])
def test_large_files_are_continued_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(lerobot_writer, "DATA_FILE_MB", 0.0)
    monkeypatch.setattr(lerobot_writer, limit, value)
    made = writer(tmp_path / "split", depth=False)
    for episode, length in enumerate(LENGTHS):
        made.add_episode(**recording(episode, length, depth=False))
    made.finish()
    assert len(list((tmp_path / "split/data").rglob("*.parquet"))) == 3
    assert len(list((tmp_path / "split/videos").rglob("*.mp4"))) == 3 * len(CAMERAS)
    dataset = LeRobotDataset.open(tmp_path / "split")
    assert not dataset.has_depth
    for episode, length in enumerate(LENGTHS):
        assert np.array_equal(dataset.arrays(episode).state, recording(episode, length)["state"].astype(np.float32))
        assert len(list(dataset.frames(episode, "observation.images.cam_high"))) == length


def test_a_killed_staging_leaves_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = recording(0, 4)
    arrays = {"observation.state": given["state"]}
    images = {f"observation.images.{name}": frames for name, frames in given["images"].items()}

    def killed(path: Path, frames: np.ndarray, fps: int) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(lerobot_staging, "encode_video", killed)
        stage_episode(tmp_path / "one", fps=FPS, task="x", columns=arrays, images=images)
    assert not (tmp_path / "one").exists()
    stage_episode(tmp_path / "one", fps=FPS, task="x", columns=arrays, images=images)
    assert (tmp_path / "one").is_dir() and not (tmp_path / "one.part").exists()


def test_mistakes_are_named(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UserError, match="already holds a dataset"):
        writer(root)
    made = writer(tmp_path / "bad")
    with pytest.raises(UserError, match="at least one"):
        made.finish()
    good = recording(0, 5)
    nan = good["action"].copy()
    nan[3, 2] = np.nan
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"action": nan}, "not finite at frame 3"),
        ({"action": good["action"][:4]}, "same number of frames"),
        ({"state": good["state"][:, :13]}, r"\[length, 14\]"),
        ({"depth": None}, "no depth of"),
        ({"images": {"cam_high": good["images"]["cam_high"]}}, "no frames of 'observation.images.cam_left_wrist'"),
        ({"images": {name: frames / 255 for name, frames in good["images"].items()}}, "uint8"),
    ]
    for change, words in wrongs:
        with pytest.raises(UserError, match=words):
            made.add_episode(**{**good, **change})
    assert made.add_episode(**good) == 0
