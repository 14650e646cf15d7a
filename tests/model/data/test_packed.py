"""Reading packed folders: chunks and their padding, splits, the cache, damage, and prefetching."""

import json
import shutil
import threading
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from model.data.bad_samples import SampleError
from model.data.frame_codecs import CODECS
from model.data.packed import PackedDataset, Prefetcher
from model.data.packed_format import read_arrow, write_arrow
from model.errors import UserError
from model.robots import find_robot
from tests.model.data.demonstrations import MemoryDataset, pack_memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed")
    pack_memory(path, rate=5.0)
    return path


def test_batch_shapes_and_dtypes(folder: Path) -> None:
    batch = PackedDataset.open(folder).batch(np.array([0, 4, 9]), 6)
    expected = {
        "images": ("uint8", (3, 3, 16, 16, 3)), "image_mask": ("bool", (3, 3)), "state": ("float32", (3, 14)),
        "actions": ("float32", (3, 6, 14)), "action_pad": ("bool", (3, 6)), "task": ("int64", (3,)),
        "sub_task": ("int64", (3,)), "task_text": ("int64", (3,)), "goal": ("float32", (3, 3)),
        "goal_mask": ("bool", (3,)), "episode": ("int64", (3,)), "frame": ("int64", (3,)),
    }  # fmt: skip
    assert {key: (str(value.dtype), value.shape) for key, value in batch.items()} == expected


def test_chunks_run_at_the_full_rate_and_stop_at_the_end_of_the_episode(folder: Path) -> None:
    packed = PackedDataset.open(folder)
    dataset = MemoryDataset()
    rows = np.arange(len(packed))
    batch = packed.batch(rows, 7)
    for row in rows:
        episode, frame = int(batch["episode"][row]), int(batch["frame"][row])
        arrays = dataset.arrays(episode)
        wanted = np.arange(frame, frame + 7)
        length = dataset.lengths[episode]
        assert (batch["state"][row] == arrays.state[frame]).all()
        assert (batch["actions"][row] == arrays.action[np.minimum(wanted, length - 1)]).all()
        assert (batch["action_pad"][row] == (wanted >= length)).all()
        assert packed.frames["progress"][row] == pytest.approx(frame / length)


def test_rows_by_split_and_task(folder: Path) -> None:
    packed = PackedDataset.open(folder)
    train, holdout = packed.rows("train"), packed.rows("holdout")
    assert len(train) and len(holdout) and sorted([*train, *holdout]) == list(range(len(packed)))
    one = packed.rows("train", tasks=[1])
    assert set(packed.frames["task"][one]) == {1} and set(one) < set(train)
    assert not set(packed.frames["episode"][train]) & set(packed.frames["episode"][holdout])
    with pytest.raises(UserError, match="Did you mean 'train'"):
        packed.rows("trian")


def test_a_whole_episode(folder: Path) -> None:
    packed = PackedDataset.open(folder)
    episode = packed.episode(2)
    assert (episode["state"] == MemoryDataset().arrays(2).state).all()
    assert packed.meta.tasks[episode["task"]] == MemoryDataset().arrays(2).task
    assert episode["split"] in ("train", "holdout")
    with pytest.raises(UserError, match="episode 9 is not in"):
        packed.episode(9)


def test_goal_statistics_are_of_training_frames_that_have_a_goal(folder: Path, tmp_path: Path) -> None:
    packed = PackedDataset.open(folder)
    batch = packed.batch(packed.rows("train"), 1)
    goals = batch["goal"][batch["goal_mask"]].astype(np.float64)
    mean, std = packed.goal_statistics
    # every packed frame of an episode has the same goal, and each episode has as many of them
    np.testing.assert_allclose(mean, goals.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, goals.std(0), rtol=1e-6)
    pack_memory(tmp_path, MemoryDataset(eef=False))
    assert PackedDataset.open(tmp_path).goal_statistics == ((0, 0, 0), (1, 1, 1))


def test_cached_images_equal_decoded_ones(folder: Path) -> None:
    plain, cached = PackedDataset.open(folder), PackedDataset.open(folder, cache="ram")
    rows = np.array([5, 1, 5, 8])
    for _ in range(2):
        assert (cached.images(rows) == plain.images(rows)).all()
    assert "kept in memory" in cached.cache_note and "each time" in plain.cache_note
    batch = cached.images(rows)
    batch[:] = 0
    assert cached.images(rows).any(), "a caller's change reached the cache"


def test_cache_beyond_its_budget_says_so_and_decodes(folder: Path) -> None:
    packed = PackedDataset.open(folder, cache="ram", cache_budget=1000)
    assert "do not fit" in packed.cache_note and packed.images(np.array([0])).any()
    with pytest.raises(UserError, match="unknown cache 'rma'"):
        PackedDataset.open(folder, cache="rma")


def test_the_robot_is_found_from_the_meta_alone(folder: Path) -> None:
    assert find_robot(PackedDataset.open(folder).meta).id == "aloha_sim"


def test_a_set_of_the_first_schema_is_read(folder: Path, tmp_path: Path) -> None:
    """It had JPEGs alone, and no checksums."""
    shutil.copytree(folder, tmp_path / "old")
    meta = json.loads((folder / "meta.json").read_text())
    for name in ("codec", "video_crf", "left_out", "task_texts"):
        del meta[name]
    (tmp_path / "old/meta.json").write_text(json.dumps(meta | {"schema_version": 1}))
    columns = read_arrow(folder / "frames.arrow")
    del columns["crc"]
    write_arrow(tmp_path / "old/frames.arrow", columns)
    old, new = PackedDataset.open(tmp_path / "old"), PackedDataset.open(folder)
    assert old.meta.codec == "jpeg"
    assert (old.images(np.arange(len(old))) == new.images(np.arange(len(new)))).all()


def test_a_set_of_the_second_schema_has_no_texts_of_whole_episodes(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "old")
    meta = json.loads((folder / "meta.json").read_text())
    del meta["task_texts"]
    (tmp_path / "old/meta.json").write_text(json.dumps(meta | {"schema_version": 2}))
    columns = read_arrow(folder / "steps.arrow")
    del columns["task_text"]
    write_arrow(tmp_path / "old/steps.arrow", columns)
    old, new = PackedDataset.open(tmp_path / "old"), PackedDataset.open(folder)
    assert old.meta.task_texts == () and set(old.batch(np.arange(5), 2)["task_text"].tolist()) == {-1}
    assert (old.batch(np.arange(5), 2)["actions"] == new.batch(np.arange(5), 2)["actions"]).all()


@pytest.mark.parametrize("codec", CODECS)
def test_one_changed_bit_is_found(tmp_path: Path, codec: str) -> None:
    """A JPEG or a raw image with a changed bit may well decode: the checksum tells."""
    pack_memory(tmp_path, codec=codec)
    place = read_arrow(tmp_path / "frames.arrow")
    shard = bytearray((tmp_path / "frames-00000.bin").read_bytes())
    shard[int(place["offset"][5, 2] + place["size"][5, 2] - 9)] ^= 1
    (tmp_path / "frames-00000.bin").write_bytes(shard)
    packed = PackedDataset.open(tmp_path)
    with pytest.raises(SampleError, match="episode 0, frame 5, cam_right_wrist cannot be decoded.*not those") as raised:
        packed.batch(np.array([2, 5]), 2)
    assert (raised.value.episode, raised.value.frame, raised.value.column) == (0, 5, "cam_right_wrist")
    packed.batch(np.array([2, 8]), 2)


def test_memory_is_stated(folder: Path) -> None:
    plain, cached = PackedDataset.open(folder), PackedDataset.open(folder, cache="ram")
    assert plain.memory["cache"] == 0 and cached.memory["cache"] == len(plain) * 3 * 16 * 16 * 3
    assert plain.memory["tables"] >= 39 * 14 * 4 * 2


def test_damage_is_named(tmp_path: Path) -> None:
    pack_memory(tmp_path)
    shard = tmp_path / "frames-00000.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r"frames-00000.bin has \d+ bytes"):
        PackedDataset.open(tmp_path)
    shard.write_bytes(bytes(400) + whole[400:])
    with pytest.raises(UserError, match="episode 0, frame 0, cam_high cannot be decoded"):
        PackedDataset.open(tmp_path).images(np.array([0]))
    (tmp_path / "steps.arrow").write_bytes(b"nothing")
    with pytest.raises(UserError, match="steps.arrow is damaged"):
        PackedDataset.open(tmp_path)
    (tmp_path / "meta.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="schema_version is 99"):
        PackedDataset.open(tmp_path)
    with pytest.raises(UserError, match="not a packed dataset"):
        PackedDataset.open(tmp_path / "nowhere")


def test_prefetcher_keeps_order_and_measures_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, seconds = threading.Event(), count()

    def held(item: int) -> int:
        assert measured.wait(120)
        return item * item

    def perf_counter() -> float:
        measured.set()  # a batch that was there before the time was looked at would not have been waited for
        return float(next(seconds))

    monkeypatch.setattr("model.data.prefetch.time", SimpleNamespace(perf_counter=perf_counter))
    with Prefetcher(held, range(5)) as batches:
        assert list(batches) == [0, 1, 4, 9, 16]
        assert batches.wait_seconds == 5.0, "a second a batch"
        assert list(batches) == []


def test_prefetcher_stays_within_its_queue() -> None:
    made: list[int] = []
    with Prefetcher(lambda item: made.append(item) or item, range(100), depth=2) as batches:
        assert next(batches) == 0
        time.sleep(0.2)
        assert len(made) <= 4  # one taken, two waiting, one in hand


def test_prefetcher_raises_the_threads_error_at_its_batch() -> None:
    def fails(item: int) -> int:
        if item == 2:
            raise UserError("episode 7, frame 3 cannot be decoded")
        return item

    with Prefetcher(fails, range(5)) as batches:
        assert next(batches) == 0 and next(batches) == 1
        with pytest.raises(UserError, match="episode 7") as raised:
            next(batches)
    assert raised.value.__notes__ == ["while making the batch of 2"]


def test_prefetcher_stops_cleanly() -> None:
    before = threading.active_count()
    batches = Prefetcher(lambda item: item, iter(int, 1))  # endless
    next(batches)
    batches.close()
    batches.close()
    assert threading.active_count() == before
    assert next(batches, None) is None
