"""Parts of a packed set: nested, of every task its share, whole sets byte for byte, and nothing of other episodes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.normalization import StatisticsAccumulator
from model.data.packed import PackedDataset
from model.data.packed_format import read_json
from model.data.subset import SUBSET, Selection, TrainingEpisodes, write_subset
from model.errors import UserError
from tests.model.data.demonstrations import TASKS, MemoryDataset, pack_memory

LENGTHS = (12, 9, 10, 8, 11, 7, 13, 6)


def pool(counts: tuple[int, ...], seed: int = 0) -> TrainingEpisodes:
    """So many episodes of each task, of 20 to 60 frames."""
    tasks = [task for task, count in enumerate(counts) for _ in range(count)]
    frames = np.random.default_rng(seed).integers(20, 60, len(tasks)).tolist()
    return TrainingEpisodes(
        task_of=dict(enumerate(tasks)), frames_of=dict(enumerate(frames)), tasks=tuple("abcd"), fps=10.0
    )


@pytest.fixture(scope="module", params=["jpeg", "h264"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack_memory(folder, MemoryDataset(lengths=LENGTHS), codec=request.param)
    return folder


pools = st.builds(pool, st.tuples(st.integers(2, 9), st.integers(2, 40), st.integers(2, 5)), st.integers(0, 99))


@given(found=pools, seed=st.integers(0, 99), shares=st.tuples(st.floats(0.5, 1), st.floats(0.5, 1)))
@settings(max_examples=60, deadline=None)
def test_more_data_holds_less_data(found: TrainingEpisodes, seed: int, shares: tuple[float, float]) -> None:
    less, more = (found.select("share", share, seed) for share in sorted(shares))
    assert set(less.episodes) <= set(more.episodes)
    assert less.hours <= more.hours
    fewer, most = (found.select("demonstrations", count, seed) for count in (1, 2))
    assert set(fewer.episodes) < set(most.episodes)


@given(found=pools, seed=st.integers(0, 99), share=st.floats(0.5, 1))
@settings(max_examples=60, deadline=None)
def test_every_task_keeps_its_share(found: TrainingEpisodes, seed: int, share: float) -> None:
    chosen = found.select("share", share, seed)
    whole = {task: list(found.task_of.values()).count(task) for task in range(3)}
    taken = len(chosen.episodes) / len(found.task_of)
    for task, name in enumerate("abc"):
        assert abs(chosen.demonstrations[name] - taken * whole[task]) <= 1.5
    # to the nearest whole episode
    assert abs(chosen.hours - share * found.hours(found.task_of)) <= 0.5 * 60 / 10 / 3600


def test_a_seed_is_an_order_of_its_own() -> None:
    found = pool((40, 40))
    first, again, other = (found.select("demonstrations", 10, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.episodes != other.episodes


def test_demonstrations_are_counted_for_each_task() -> None:
    chosen = pool((5, 30)).select("demonstrations", 4, 0)
    assert chosen.demonstrations == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("axis", "amount", "message"),
    [
        ("demonstrations", 6, "6 demonstrations a task are asked for, 'a' has 5 to train on"),
        ("hours", 9, "9 hours are asked for, there are 0.03.* to train on"),
        ("hours", 0.0001, "0.0001 hours hold no demonstration of 'a'"),
        ("share", 0.01, "0.01 share hold no demonstration of 'a'"),
    ],
)
def test_what_the_data_does_not_have_is_named(axis, amount: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pool((5, 30)).select(axis, amount, 0)


def test_all_of_it_is_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    found = TrainingEpisodes.read(packed)
    write_subset(packed, tmp_path, found.select("share", 1.0, 3), {"amount": 1.0})
    for path in packed.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in packed.iterdir()} == {SUBSET}


def test_a_part_gives_the_same_samples_and_no_others(packed: Path, tmp_path: Path) -> None:
    whole = PackedDataset.open(packed)
    chosen = TrainingEpisodes.read(packed).select("demonstrations", 1, 0)
    write_subset(packed, tmp_path, chosen, {})
    part = PackedDataset.open(tmp_path)
    assert part.episodes("train") == chosen.episodes
    assert part.episodes("holdout") == whole.episodes("holdout")
    place = {frame: row for row, frame in enumerate(zip(whole.frames["episode"], whole.frames["frame"], strict=True))}
    frames = zip(part.frames["episode"], part.frames["frame"], strict=True)
    theirs, ours = whole.batch(np.array([place[frame] for frame in frames]), 4), part.batch(np.arange(len(part)), 4)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)
    assert part.meta.counts["train_episodes"] == len(chosen.episodes) == 2
    assert part.meta.counts["steps"] == sum(LENGTHS[number] for number in part.episodes())
    assert sum((tmp_path / name).stat().st_size for name in part.meta.files) < sum(
        (packed / name).stat().st_size for name in whole.meta.files
    )


def test_statistics_are_those_of_the_chosen_episodes(packed: Path, tmp_path: Path) -> None:
    chosen = TrainingEpisodes.read(packed).select("demonstrations", 1, 0)
    write_subset(packed, tmp_path, chosen, {})
    accumulator = StatisticsAccumulator()
    for number in chosen.episodes:
        accumulator.add(PackedDataset.open(packed).episode(number)["state"])
    assert PackedDataset.open(tmp_path).statistics["state"] == accumulator.result()


def test_it_says_what_was_chosen(packed: Path, tmp_path: Path) -> None:
    chosen = TrainingEpisodes.read(packed).select("demonstrations", 2, 5)
    write_subset(packed, tmp_path, chosen, {"axis": "demonstrations", "amount": 2, "seed": 5})
    said = read_json(tmp_path / SUBSET)
    assert said["episodes"] == list(chosen.episodes)
    assert said["demonstrations"] == dict.fromkeys(TASKS, 2)
    assert (said["axis"], said["amount"], said["seed"]) == ("demonstrations", 2, 5)
    hours = sum(LENGTHS[number] for number in chosen.episodes) / 10 / 3600
    assert said["hours"] == pytest.approx(hours)


def test_a_killed_attempt_leaves_nothing(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "frames-00007.bin").write_bytes(b"left over")
    found = TrainingEpisodes.read(packed)
    write_subset(packed, tmp_path, found.select("demonstrations", 1, 0), {})
    assert sorted(path.name for path in tmp_path.glob("frames-*.bin")) == ["frames-00000.bin"]


def test_images_go_on_in_another_file(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = TrainingEpisodes.read(packed)
    everything = Selection(episodes=tuple(found.task_of), hours=0.0, demonstrations={})
    monkeypatch.setattr("model.data.subset.SHARD_BYTES", 1)
    meta = write_subset(packed, tmp_path, everything, {})
    assert len(meta.files) == len(LENGTHS), "an episode is never cut"
    rows = np.arange(len(PackedDataset.open(packed)))
    np.testing.assert_array_equal(PackedDataset.open(tmp_path).images(rows), PackedDataset.open(packed).images(rows))
