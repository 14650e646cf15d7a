"""Samples that cannot be read: named once, replaced by a neighbour of the same episode, counted against a budget."""

from pathlib import Path

import numpy as np
import pytest

from model.data.bad_samples import SampleError, Tolerant
from model.data.packed import PackedDataset
from model.errors import UserError
from tests.model.data.demonstrations import pack_memory

LENGTHS = (12, 9, 10, 8)  # of the episodes of `MemoryDataset`


@pytest.fixture
def damaged(tmp_path: Path) -> PackedDataset:
    """Rows 3 (episode 0, frame 3) and 11 (its last frame) have another byte in one view."""
    pack_memory(tmp_path, codec="uint8")
    places = PackedDataset.open(tmp_path)._places
    with (tmp_path / "frames-00000.bin").open("r+b") as file:
        for row, view in ((3, 1), (11, 2)):
            file.seek(int(places["offset"][row, view]) + 5)
            file.write(b"\xff")
    return PackedDataset.open(tmp_path)


def test_without_a_budget_the_first_one_stops_and_is_named(damaged: PackedDataset) -> None:
    with pytest.raises(SampleError, match="episode 0, frame 3, cam_left_wrist.*not those that were packed") as raised:
        damaged.batch(np.array([1, 3]), 2)
    assert (raised.value.episode, raised.value.frame, raised.value.column) == (0, 3, "cam_left_wrist")
    with pytest.raises(UserError, match="cannot be read: 1, the budget is 0.*\n.*episode 0, frame 3"):
        Tolerant(damaged, budget=0, report=print).batch(np.array([1, 3]), 2)


def test_within_the_budget_a_neighbour_takes_its_place(damaged: PackedDataset) -> None:
    told: list[str] = []
    tolerant = Tolerant(damaged, budget=2, report=told.append)
    batch = tolerant.batch(np.array([3, 20, 11]), 2)
    expected = damaged.batch(np.array([4, 20, 10]), 2)
    assert all((batch[key] == expected[key]).all() for key in expected)
    assert sorted(tolerant.bad) == [3, 11]
    assert len(told) == 2 and "1 of a budget of 2" in told[0] and "episode 0, frame 11, cam_right_wrist" in told[1]


def test_a_sample_counts_once_however_often_it_is_drawn(damaged: PackedDataset) -> None:
    told: list[str] = []
    tolerant = Tolerant(damaged, budget=1, report=told.append)
    for _ in range(3):
        assert tolerant.batch(np.array([3, 3]), 1)["frame"].tolist() == [4, 4]
    assert len(told) == 1


def test_one_more_than_the_budget_names_all_of_them(damaged: PackedDataset) -> None:
    tolerant = Tolerant(damaged, budget=1, report=lambda _: None)
    tolerant.batch(np.array([3]), 1)
    with pytest.raises(UserError, match="(?s)cannot be read: 2, the budget is 1.*frame 3, .*frame 11, "):
        tolerant.batch(np.array([11]), 1)


def test_an_episode_without_a_readable_sample_stops() -> None:
    class Unreadable:
        frames = {"episode": np.array([4, 4]), "frame": np.array([0, 1])}

        def batch(self, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
            raise SampleError("episode 4: its video is missing", 4, None, "front")

    with pytest.raises(UserError, match="no sample of episode 4 can be read: episode 4: its video is missing"):
        Tolerant(Unreadable(), budget=9, report=lambda _: None).batch(np.array([1]), 1)


def test_other_errors_pass(damaged: PackedDataset) -> None:
    with pytest.raises(IndexError):
        Tolerant(damaged, budget=5, report=print).batch(np.array([sum(LENGTHS)]), 1)


def test_a_budget_below_zero_is_refused(damaged: PackedDataset) -> None:
    with pytest.raises(UserError, match="budget of bad samples is -1"):
        Tolerant(damaged, budget=-1, report=print)
