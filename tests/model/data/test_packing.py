"""Writing packed folders: deterministic bytes, split, resume, cameras, goals, and errors that name the sample."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.data import frame_codecs, packing_frames
from model.data.bad_samples import SampleError
from model.data.frame_codecs import CODECS
from model.data.lerobot import EpisodeArrays
from model.data.packed import PackedDataset
from model.data.packing_plan import PackingSettings, split_episodes
from model.data.packing_tables import Segment
from model.data.quarantine import read_quarantine
from model.errors import UserError
from model.progress import Silent
from tests.model.data.demonstrations import CAMERAS, TASKS, MemoryDataset, colour, pack_memory


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_equal_input_gives_equal_bytes_and_nothing_else_stays(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack_memory(tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    names = ["frames-00000.bin", "frames.arrow", "meta.json", "statistics.json", "steps.arrow"]
    assert sorted(digests(tmp_path / "a")) == names


def test_meta_counts_and_names(tmp_path: Path) -> None:
    meta = pack_memory(tmp_path, quarantined=frozenset({1}), rate=5.0)
    assert meta.counts == {
        "episodes": 3, "train_episodes": 2, "holdout_episodes": 1, "quarantined": 1, "left_out": 0,
        "steps": 30, "frames": 15,
    }  # fmt: skip
    assert meta.cameras == CAMERAS and meta.stride == 2 and meta.rate == 5.0 and meta.fps == 10.0
    assert meta.tasks == tuple(sorted(TASKS))
    assert meta.state_names[6] == "left_gripper" and meta.has_goal
    assert json.loads((tmp_path / "meta.json").read_text())["robot"] == "aloha_sim"


def test_every_packed_frame_is_the_right_frame_of_the_right_view(tmp_path: Path) -> None:
    pack_memory(tmp_path, rate=5.0)
    packed = PackedDataset.open(tmp_path)
    images = packed.images(np.arange(len(packed)))
    for row in range(len(packed)):
        for view, camera in enumerate(CAMERAS):
            expected = colour(int(packed.frames["episode"][row]), camera, int(packed.frames["frame"][row]))
            assert np.abs(images[row, view].astype(int) - expected).max() <= 3


def test_colour_is_stored_in_full_resolution(tmp_path: Path) -> None:
    class Stripes(MemoryDataset):
        def frames(self, episode, camera, indices=None):
            image = np.zeros((16, 16, 3), np.uint8)
            image[:, ::2] = (200, 30, 30)
            image[:, 1::2] = (30, 30, 200)
            return iter([image] * len(indices))

    pack_memory(tmp_path, Stripes(lengths=(2,)))
    packed = PackedDataset.open(tmp_path)
    first = packed.images(np.array([0]))[0, 0].astype(int)
    # 4:2:0 would average the two colours away
    assert first[:, ::2, 0].min() > 150 and first[:, 1::2, 0].max() < 80


def test_absent_cameras_have_no_bytes_and_are_masked(tmp_path: Path) -> None:
    pack_memory(tmp_path, MemoryDataset(cameras_present=("cam_left_wrist",)))
    packed = PackedDataset.open(tmp_path)
    batch = packed.batch(np.array([0, 3]), 2)
    assert batch["image_mask"].tolist() == [[False, True, False]] * 2
    assert (batch["images"][:, [0, 2]] == 0).all() and batch["images"][:, 1].any()


def test_goals_come_from_the_recorded_pose(tmp_path: Path) -> None:
    pack_memory(tmp_path)
    packed = PackedDataset.open(tmp_path)
    batch = packed.batch(np.arange(12), 1)
    assert batch["goal_mask"].tolist() == [True] * 5 + [False] * 7
    np.testing.assert_allclose(batch["goal"][:5], 0.05, rtol=1e-5)
    meta = pack_memory(tmp_path / "no_pose", MemoryDataset(eef=False))
    assert not meta.has_goal


def test_segments_become_sub_tasks(tmp_path: Path) -> None:
    segments = {0: [Segment(start=2, end=5, sub_task="close the right gripper"), Segment(start=5, end=6, sub_task="")]}
    meta = pack_memory(tmp_path, segments=segments)
    packed = PackedDataset.open(tmp_path)
    assert meta.sub_tasks == ("close the right gripper",)
    assert packed.frames["sub_task"][:7].tolist() == [-1, -1, 0, 0, 0, -1, -1]


def test_an_episodes_text_is_kept_where_it_differs_from_its_task(tmp_path: Path) -> None:
    def segment(start: int, task: str) -> Segment:
        return Segment(start=start, end=start + 2, sub_task="", task=task)

    own = MemoryDataset().episodes[2].instruction
    meta = pack_memory(
        tmp_path,
        segments={
            0: [segment(2, "tidy the table"), segment(5, "tidy the table")],
            1: [segment(0, "")],
            2: [segment(1, own)],
        },
    )
    packed = PackedDataset.open(tmp_path)
    assert meta.task_texts == ("tidy the table",) and own in meta.tasks and "tidy the table" not in meta.tasks
    texts = packed.table.steps["task_text"]
    assert {episode: set(texts[start:end].tolist()) for episode, (start, end) in packed.table.bounds.items()} == {
        0: {0}, 1: {-1}, 2: {-1}, 3: {-1},
    }  # fmt: skip
    assert packed.batch(np.array([0, 13]), 1)["task_text"].tolist() == [0, -1]


def test_statistics_are_of_the_training_split_alone(tmp_path: Path) -> None:
    pack_memory(tmp_path)
    packed = PackedDataset.open(tmp_path)
    train = np.concatenate([packed.episode(episode)["state"] for episode in packed.episodes("train")])
    assert packed.episodes("holdout") and packed.statistics["state"].count == len(train)
    np.testing.assert_allclose(packed.statistics["state"].mean, train.mean(0, dtype=np.float64))
    np.testing.assert_allclose(packed.statistics["action"].max[1], train[:, 1].max() + 0.5)


def test_split_depends_on_episode_and_seed_alone() -> None:
    everything = split_episodes(range(400), 0.1, seed=3)
    part = split_episodes(range(0, 400, 2), 0.1, seed=3)
    assert all(everything[episode] == side for episode, side in part.items())
    held = sum(side == "holdout" for side in everything.values())
    assert 20 <= held <= 60
    assert split_episodes(range(400), 0.1, seed=4) != everything


@pytest.mark.parametrize("seed", range(8))
def test_both_sides_of_a_split_have_episodes(seed: int) -> None:
    assert set(split_episodes(range(3), 0.01, seed).values()) == {"train", "holdout"}
    assert set(split_episodes(range(3), 0.99, seed).values()) == {"train", "holdout"}
    assert set(split_episodes(range(3), 0.0, seed).values()) == {"train"}
    assert split_episodes([7], 0.5, seed) in ({7: "train"}, {7: "holdout"})


def test_resumes_where_a_killed_attempt_stopped(tmp_path: Path) -> None:
    interrupted = tmp_path / "killed"
    with pytest.raises(UserError, match="frame 9 is missing"):
        pack_memory(interrupted, MemoryDataset(lengths=(8, 9, 12), missing_after=9))
    again = MemoryDataset(lengths=(8, 9, 12))
    pack_memory(interrupted, again)
    assert {episode for episode, _ in again.read} == {2}, "finished episodes were encoded again"
    fresh = tmp_path / "fresh"
    pack_memory(fresh, MemoryDataset(lengths=(8, 9, 12)))
    assert digests(interrupted) == digests(fresh)


def test_scratch_of_other_settings_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        pack_memory(tmp_path, MemoryDataset(lengths=(8, 12), missing_after=9))
    again = MemoryDataset(lengths=(8, 12))
    meta = pack_memory(tmp_path, again, image_size=20)
    assert {episode for episode, _ in again.read} == {0, 1} and meta.image_size == 20
    assert not (tmp_path / ".scratch").exists()


def test_image_files_are_cut_between_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_frames, "SHARD_BYTES", 40_000)
    meta = pack_memory(tmp_path / "cut")
    assert len(meta.files) > 1
    assert all((tmp_path / "cut" / name).stat().st_size <= 40_000 for name in meta.files[:-1])
    monkeypatch.undo()
    pack_memory(tmp_path / "one")
    cut, one = PackedDataset.open(tmp_path / "cut"), PackedDataset.open(tmp_path / "one")
    assert (cut.images(np.arange(len(cut))) == one.images(np.arange(len(one)))).all()


@pytest.mark.slow
def test_real_datasets_pack_the_same_in_one_process_and_in_two(tmp_path: Path, shared: Path) -> None:
    from model.data.lerobot import LeRobotDataset
    from model.data.packing import pack
    from model.robots import find_robot

    dataset = LeRobotDataset.open(shared / "datasets/gr1_sim_picknplace")
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        pack(
            dataset, find_robot(dataset.info), tmp_path / str(workers), PackingSettings(image_size=32, rate=1.0),
            quarantined=frozenset({2, 3, 4}), segments={}, progress=Silent(), workers=workers,
        )  # fmt: skip
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    packed = PackedDataset.open(tmp_path / "1")
    source = next(dataset.frames(1, "ego_view", [40]))
    row = int(np.flatnonzero((packed.frames["episode"] == 1) & (packed.frames["frame"] == 40))[0])
    mean_error = np.abs(packed.images(np.array([row]))[0, 0].mean((0, 1)) - source.mean((0, 1))).max()
    assert mean_error < 1.0 and packed.batch(np.array([row]), 3)["image_mask"].all()


def test_errors_name_the_sample_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all 4 episodes are quarantined"):
        pack_memory(tmp_path, quarantined=frozenset(range(4)))
    with pytest.raises(UserError, match="its cameras are front.*'aloha_sim' needs one of cam_high"):
        pack_memory(tmp_path, MemoryDataset(cameras_present=("front",)))
    with pytest.raises(UserError, match="holdout_fraction is 1.5"):
        PackingSettings(holdout_fraction=1.5)
    with pytest.raises(UserError, match="rate is 0"):
        PackingSettings(rate=0)
    with pytest.raises(UserError, match="image_size is 4"):
        PackingSettings(image_size=4)
    with pytest.raises(UserError, match="jpeg_quality is 0"):
        PackingSettings(jpeg_quality=0)
    with pytest.raises(UserError, match="video_crf is 99"):
        PackingSettings(video_crf=99)
    with pytest.raises(UserError, match="unknown frame codec 'h265'.*Did you mean 'h264'"):
        PackingSettings(codec="h265")
    with pytest.raises(UserError, match="unreadable_episodes is -1"):
        PackingSettings(unreadable_episodes=-1)


def test_unreadable_episodes_within_the_budget_are_left_out_and_named(tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Silent):
        def message(self, text: str) -> None:
            told.append(text)

    dataset = MemoryDataset(lengths=(8, 12, 9, 11), missing_after=9)
    meta = pack_memory(tmp_path, dataset, unreadable_episodes=2, progress=Told())
    assert [entry["episode"] for entry in meta.left_out] == [1, 3]
    assert meta.left_out[0]["reason"].startswith("episode 1, camera 'observation.images.cam_high': frame 9 is missing")
    assert meta.counts["episodes"] == 2 and meta.counts["left_out"] == 2 and meta.counts["quarantined"] == 0
    assert sum("left out" in text and "of at most 2" in text for text in told) == 2
    assert PackedDataset.open(tmp_path).episodes() == (0, 2)


def test_one_unreadable_episode_more_than_the_budget_stops(tmp_path: Path) -> None:
    dataset = MemoryDataset(lengths=(8, 12, 9, 11), missing_after=9)
    with pytest.raises(UserError, match="(?s)2 episodes cannot be .* allows 1.*episode 1.*episode 3"):
        pack_memory(tmp_path, dataset, unreadable_episodes=1)


def test_an_episode_of_unreadable_numbers_counts_too(tmp_path: Path) -> None:
    class Holes(MemoryDataset):
        def arrays(self, episode: int) -> EpisodeArrays:
            if episode == 2:
                raise SampleError("memory: episode 2 frame 4: column 'action' is nan", 2, 4, "action")
            return super().arrays(episode)

    meta = pack_memory(tmp_path, Holes(), unreadable_episodes=1)
    assert meta.left_out == ({"episode": 2, "reason": "episode 2 frame 4: column 'action' is nan"},)
    with pytest.raises(SampleError, match="episode 2 frame 4: column 'action'"):
        pack_memory(tmp_path / "none", Holes())


def test_every_codec_packs_the_same_frames(tmp_path: Path) -> None:
    for codec in CODECS:
        assert pack_memory(tmp_path / codec, codec=codec, rate=5.0).codec == codec
    packed = {codec: PackedDataset.open(tmp_path / codec) for codec in CODECS}
    rows = np.arange(len(packed["uint8"]))[::-1]
    exact = packed["uint8"].images(rows).astype(int)
    for codec in ("jpeg", "h264"):
        assert np.abs(packed[codec].images(rows) - exact).max() <= 4


def test_a_full_disk_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_codecs, "encode_jpeg", full)
    with pytest.raises(UserError, match="the disk is full"):
        pack_memory(tmp_path)


def test_quarantine_is_read_and_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quarantine.yaml is missing"):
        read_quarantine(tmp_path)
    path = tmp_path / "quarantine.yaml"
    path.write_text("[]\n")
    assert read_quarantine(tmp_path) == frozenset()
    path.write_text("- {episode: 3, rule: nan, evidence: {frame: 1}}\n- {episode: 5, rule: video, evidence: {}}\n")
    assert read_quarantine(tmp_path) == {3, 5}
    path.write_text("episode: 3\n")
    with pytest.raises(UserError, match="must be a list"):
        read_quarantine(tmp_path)
    path.write_text("- {rule: nan}\n")
    with pytest.raises(UserError, match="names no 'episode'"):
        read_quarantine(tmp_path)
