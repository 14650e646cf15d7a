"""The reader against datasets of each version, exact frames, and errors that name the sample."""

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.bad_samples import SampleError
from model.data.lerobot import LeRobotDataset
from model.data.lerobot_layout import VERSIONS
from model.data.video import Video, VideoError
from model.errors import UserError
from tests.fixtures_lerobot import CAMERAS, NAMES, edit_json, motion, picture, told, write_dataset, write_video

KEYS = tuple(f"observation.images.{camera}" for camera in CAMERAS)


@pytest.fixture(scope="module", params=VERSIONS)
def clean(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean") / "set", request.param, depth=True)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "set", "v2.1")


def test_metadata_tables_and_instructions(clean: Path) -> None:
    dataset = LeRobotDataset.open(clean)
    assert dataset.info.fps == 10
    assert dataset.info.cameras == dataset.cameras == KEYS
    assert dataset.info.state_names == dataset.info.action_names == tuple(NAMES)
    assert [episode.length for episode in dataset.episodes] == [20, 26, 23]
    assert dataset.remarks == ()
    for episode in dataset.episodes:
        arrays = dataset.arrays(episode.index)
        expected = motion(episode.index, episode.length)
        np.testing.assert_array_equal(arrays.state, expected)
        np.testing.assert_array_equal(arrays.action[:-1], expected[1:])
        assert arrays.state.dtype == arrays.action.dtype == np.float32
        np.testing.assert_allclose(arrays.timestamp, np.arange(episode.length) / 10, atol=1e-6)
        assert arrays.task == episode.instruction
        assert arrays.eef_pose is None
    assert dataset.arrays(0).task == "lift the cube with the right arm"
    assert dataset.arrays(1).task == "lift the cube with the left arm"


def test_every_frame_is_the_right_one(clean: Path) -> None:
    dataset = LeRobotDataset.open(clean)
    for episode in dataset.episodes:
        for number, camera in enumerate(CAMERAS):
            images = list(dataset.frames(episode.index, camera))
            assert len(images) == episode.length
            assert [told(image) for image in images] == [(episode.index, f, number) for f in range(episode.length)]
            assert np.abs(images[5].astype(int) - picture(episode.index, 5, number)).mean() < 4


@pytest.mark.parametrize("indices", [[25], [3, 4, 5, 19], [0, 24], [7, 7, 2, 25, 1], []])
def test_frames_by_index_are_those_of_a_whole_pass(clean: Path, indices: list[int]) -> None:
    dataset = LeRobotDataset.open(clean)
    whole = list(dataset.frames(1, KEYS[0]))
    chosen = list(dataset.frames(1, KEYS[0], indices))
    assert len(chosen) == len(indices)
    for index, image in zip(indices, chosen, strict=True):
        np.testing.assert_array_equal(image, whole[index])


def test_depth_is_metric_and_zero_where_nothing_returned(clean: Path) -> None:
    dataset = LeRobotDataset.open(clean)
    assert dataset.has_depth
    assert dataset.depth_cameras == KEYS
    maps = list(dataset.depth(1, "cam_high", [0, 25]))
    assert maps[0].dtype == np.float32
    assert maps[0][0, 0] == 0
    np.testing.assert_allclose(maps[0][1:], 0.501, atol=1e-6)
    np.testing.assert_allclose(maps[1], 0.751, atol=1e-6)


def test_any_fsspec_file_system_serves(clean: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(clean), "/bucket/set", recursive=True)
    try:
        remote = LeRobotDataset.open("/bucket/set", memory)
        local = LeRobotDataset.open(clean)
        assert remote.episodes == local.episodes
        np.testing.assert_array_equal(remote.arrays(2).action, local.arrays(2).action)
        np.testing.assert_array_equal(*(next(d.frames(2, "cam_high", [11])) for d in (remote, local)))
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, ["is not a LeRobot dataset: no such folder", "/nowhere", "meta/, data/ and videos/"]),
        (lambda root: (root.mkdir(), (root / "a.txt").write_text("x")), ["it has no meta/info.json"]),
    ],
)
def test_not_a_dataset(tmp_path: Path, make: object, words: list[str]) -> None:
    root = tmp_path / "nowhere"
    make(root)  # type: ignore[operator]
    with pytest.raises(UserError) as error:
        LeRobotDataset.open(root)
    assert all(word in str(error.value) for word in words)


def test_broken_metadata_names_file_and_key(broken: Path) -> None:
    info = broken / "meta/info.json"
    whole = info.read_text()
    edit_json(info, codebase_version="v1.6")
    with pytest.raises(UserError, match=r"meta/info.json: codebase_version 'v1.6' is none of v2.0, v2.1, v3.0"):
        LeRobotDataset.open(broken)
    info.write_text(whole)
    edit_json(info, fps=0)
    with pytest.raises(UserError, match=r"meta/info.json: fps is 0. It must be a positive number"):
        LeRobotDataset.open(broken)
    for value in ("NaN", "Infinity"):  # as Python's json writes them
        info.write_text(whole.replace('"fps": 10', f'"fps": {value}'))
        with pytest.raises(UserError, match=r"fps is (nan|inf). It must be a positive number"):
            LeRobotDataset.open(broken)
    info.write_text(whole)
    features = json.loads(whole)["features"]
    edit_json(info, features=features | {"action": {"dtype": "float32", "shape": None}})
    with pytest.raises(UserError, match=r"feature 'action' has shape None. It must be a list of whole numbers"):
        LeRobotDataset.open(broken)
    info.write_text(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"meta/info.json is not valid JSON"):
        LeRobotDataset.open(broken)
    info.write_text(whole)
    (broken / "meta/episodes.jsonl").write_text('{"episode_index": 0, "tasks": []}\n')
    with pytest.raises(UserError, match=r"episodes.jsonl line 1: 'length' is None"):
        LeRobotDataset.open(broken)
    (broken / "meta/episodes.jsonl").unlink()
    with pytest.raises(UserError, match=r"meta/episodes.jsonl is missing"):
        LeRobotDataset.open(broken)


def test_an_episode_without_its_times_in_a_shared_video_is_named(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", "v3.0")
    (path,) = (root / "meta/episodes").rglob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([f"videos/{KEYS[0]}/to_timestamp"]), path)
    with pytest.raises(UserError, match=r"meta/episodes: episode 0 lies from 0.0 to None in videos/.*Give both times"):
        LeRobotDataset.open(root)


def rewrite(root: Path, key: str, change: object, episode: int = 1) -> None:
    """Writes column `key` of an episode's table again, as changed by `change(rows)`."""
    path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
    table = pq.read_table(path)
    rows = table[key].to_pylist()
    rows = change(rows)  # type: ignore[operator]
    kind = pa.list_(pa.float32()) if isinstance(rows[0], list) else None
    pq.write_table(table.set_column(table.column_names.index(key), key, pa.array(rows, kind)), path)


def test_a_bad_number_names_episode_frame_and_column(broken: Path) -> None:
    def spoil(rows: list) -> list:
        rows[7][3] = float("nan")
        return rows

    rewrite(broken, "action", spoil)
    dataset = LeRobotDataset.open(broken)
    dataset.arrays(0)
    with pytest.raises(UserError, match=r"set: episode 1 frame 7: column 'action' dimension 3 is nan"):
        dataset.arrays(1)


def test_a_null_or_a_short_row_names_the_frame(broken: Path) -> None:
    rewrite(broken, "observation.state", lambda rows: rows[:4] + [rows[4][:13]] + rows[5:])
    rewrite(broken, "action", lambda rows: rows[:9] + [None] + rows[10:], episode=2)
    dataset = LeRobotDataset.open(broken)
    with pytest.raises(UserError, match=r"episode 1 frame 4: column 'observation.state' has 13 values, .* declares 14"):
        dataset.arrays(1)
    with pytest.raises(UserError, match=r"episode 2 frame 9: column 'action' has 0 values"):
        dataset.arrays(2)


def test_a_missing_column_task_table_or_video_is_named(broken: Path) -> None:
    rewrite(broken, "task_index", lambda rows: [7] * len(rows))
    path = broken / "data/chunk-000/episode_000002.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    (broken / "data/chunk-000/episode_000000.parquet").unlink()
    (broken / "videos/chunk-000/observation.images.cam_high/episode_000002.mp4").unlink()
    dataset = LeRobotDataset.open(broken)
    with pytest.raises(UserError, match=r"episode 1 frame 0: column 'task_index' is 7, meta/tasks has no such task"):
        dataset.arrays(1)
    with pytest.raises(UserError, match=r"episode 2: column 'action' is missing; it has observation.state"):
        dataset.arrays(2)
    with pytest.raises(UserError, match=r"episode 0: its table is missing"):
        dataset.table(0)
    with pytest.raises(UserError, match=r"episode 2, camera 'observation.images.cam_high': its video is missing"):
        list(dataset.frames(2, "cam_high"))
    with pytest.raises(UserError, match=r"unknown camera of .*set 'cam_hihg'.*Did you mean 'cam_high'"):
        list(dataset.frames(1, "cam_hihg"))


def test_a_damaged_video_names_the_frame_and_file(broken: Path) -> None:
    path = broken / "videos/chunk-000/observation.images.cam_high/episode_000001.mp4"
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + 300] = bytes(255 - byte for byte in data[middle : middle + 300])
    path.write_bytes(data)
    dataset = LeRobotDataset.open(broken)
    with pytest.raises(UserError, match=r"episode 1, camera '.*cam_high' \(videos/.*000001.mp4\): frame \d+ does not"):
        list(dataset.frames(1, "cam_high"))
    path.write_bytes(b"not a video")
    with pytest.raises(UserError, match=r"it cannot be opened as a video"):
        list(LeRobotDataset.open(broken).frames(1, "cam_high"))


def test_a_frame_beyond_the_episode_is_refused(clean: Path) -> None:
    """In v3.0 the next frame of the file belongs to another episode: reading it would be silent."""
    dataset = LeRobotDataset.open(clean)
    with pytest.raises(UserError, match=r"frame 20 is asked for, the episode has 20 frames there"):
        list(dataset.frames(0, "cam_high", [20]))


def test_declared_paths_that_lead_nowhere_are_found_by_name_and_remarked(broken: Path) -> None:
    edit_json(broken / "meta/info.json", data_path="data/chunk-{episode_index:03d}/episode_{episode_index:06d}.parquet")
    dataset = LeRobotDataset.open(broken)
    assert [episode.table for episode in dataset.episodes] == [
        f"data/chunk-000/episode_{index:06d}.parquet" for index in range(3)
    ]
    (remark,) = dataset.remarks
    assert remark.rule == "layout_path"
    assert remark.evidence["episodes"] == [1, 2]


def test_validity_words_are_no_instruction(broken: Path) -> None:
    lines = ["valid", "lift the cube with the left arm", "pick the pear"]
    text = "".join(json.dumps({"task_index": i, "task": task}) + "\n" for i, task in enumerate(lines))
    (broken / "meta/tasks.jsonl").write_text(text)
    dataset = LeRobotDataset.open(broken)
    # Episode 0's task_index points at 'valid': the declared task of the episode is the instruction.
    assert dataset.arrays(0).task == "lift the cube with the right arm"
    path = broken / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    column = pa.array([2] * table.num_rows)
    pq.write_table(table.append_column("annotation.human.action.task_description", column), path)
    assert LeRobotDataset.open(broken).arrays(0).task == "pick the pear"


def test_images_stored_in_the_table(tmp_path: Path) -> None:
    import io

    from PIL import Image

    root = write_dataset(tmp_path / "set", "v2.1", lengths=(6,))
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][KEYS[0]]["dtype"] = "image"
    (root / "meta/info.json").write_text(json.dumps(info))
    shutil.rmtree(root / f"videos/chunk-000/{KEYS[0]}")
    cells = []
    for frame in range(6):
        buffer = io.BytesIO()
        Image.fromarray(picture(0, frame, 0)).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    cells[4]["bytes"] = b"broken"
    path = root / "data/chunk-000/episode_000000.parquet"
    pq.write_table(pq.read_table(path).append_column(KEYS[0], pa.array(cells)), path)
    dataset = LeRobotDataset.open(root)
    assert dataset.cameras == KEYS
    assert [told(image)[1] for image in dataset.frames(0, "cam_high", [0, 3])] == [0, 3]
    with pytest.raises(UserError, match=r"episode 0 frame 4: column '.*cam_high' holds no image"):
        list(dataset.frames(0, "cam_high"))


def test_a_check_with_a_stride_decodes_the_frames_it_names(tmp_path: Path) -> None:
    """Every frame is a key frame here, so that damage stays in the frame it is in."""
    path = tmp_path / "video.mp4"
    write_video(path, [picture(0, frame, 0) for frame in range(12)], 10, options={"crf": "12", "g": "1", "bf": "0"})
    whole = Video(lambda: str(path))
    whole.check(0, 12)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux() if packet.size][5]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place + size // 4 : place + size] = bytes(size - size // 4)
    path.write_bytes(data)
    damaged = Video(lambda: str(path))
    damaged.check(6, 12)
    damaged.check(0, 12, stride=11)
    with pytest.raises(VideoError, match="frame 5 does not decode"):
        damaged.check(0, 12)


def test_a_damaged_frame_is_counted_from_its_episodes_start(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes share a file in v3.0: frame 23 of the file is frame 3 of the second episode of 20."""

    def fails(video: Video, positions: list[int], pixel_format: str) -> Iterator[np.ndarray]:
        raise VideoError("does not decode (damaged)", positions[3])
        yield

    monkeypatch.setattr(Video, "read", fails)
    with pytest.raises(SampleError, match=r"episode 1, camera '.*cam_high' \(.*mp4\): frame 3 does not") as raised:
        list(LeRobotDataset.open(clean).frames(1, "cam_high"))
    copied = pickle.loads(pickle.dumps(raised.value))  # as process pools do
    assert (copied.episode, copied.frame, copied.column) == (1, 3, "observation.images.cam_high")
    assert str(copied) == str(raised.value)


def test_a_sample_is_one_frame_and_the_chunk_from_it(clean: Path) -> None:
    dataset = LeRobotDataset.open(clean)
    sample = dataset.sample(1, 23, horizon=5, cameras=["cam_left_wrist", "cam_high"])
    assert list(sample.images) == [KEYS[1], KEYS[0]]
    assert [told(image) for image in sample.images.values()] == [(1, 23, 1), (1, 23, 0)]
    np.testing.assert_array_equal(sample.state, motion(1, 26)[23])
    # 26 frames: three actions are left, the rest is padding and says so
    np.testing.assert_array_equal(sample.padding, [False, False, False, True, True])
    np.testing.assert_array_equal(sample.actions[:2], motion(1, 26)[24:26])
    np.testing.assert_array_equal(sample.actions[2:], sample.actions[[2, 2, 2]])
    assert sample.timestamp == pytest.approx(2.3)
    assert sample.task == "lift the cube with the left arm"
    assert set(dataset.sample(0, 0, horizon=1).images) == set(KEYS)
    with pytest.raises(UserError, match=r"set: episode 1: frame 26 is asked for, the episode has 26 frames"):
        dataset.sample(1, 26, horizon=5)
