"""The loader: order, exact resume, threads, and its bound on memory."""

import threading
from pathlib import Path

import numpy as np
import pytest

from model.data.loader import DECODER_BYTES, Loader
from model.data.packed import PackedDataset
from model.data.prefetch import Prefetcher
from model.data.sampler import FrameSampler
from model.errors import UserError
from tests.model.data.demonstrations import pack_memory


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("packed")
    pack_memory(folder)
    packed = PackedDataset.open(folder)
    rows = packed.rows("train")
    sampler = FrameSampler(
        rows=rows, early=packed.frames["progress"][rows] < 0.3, tasks=packed.frames["task"][rows], early_share=0.25,
        task_weights={0: 0.5, 1: 0.5}, batch_size=4, seed=3,
    )  # fmt: skip

    def make(**changes) -> Loader:
        return Loader(**({"frames": packed, "sampler": sampler, "horizon": 3, "last": 8} | changes))

    return make


def equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all((left[key] == right[key]).all() for key in left)


def test_a_resumed_loader_goes_on_with_the_same_batches(loader) -> None:
    whole = list(loader())
    resumed = list(loader(first=5))
    assert len(whole) == 8 and len(resumed) == 3
    assert all(equal(a, b) for a, b in zip(whole[5:], resumed, strict=True))


def test_threads_change_nothing_but_speed(loader) -> None:
    assert all(equal(a, b) for a, b in zip(loader(workers=1), loader(workers=3), strict=True))


def test_images_leave_as_bytes(loader) -> None:
    batch = next(iter(loader()))
    assert batch["images"].dtype == np.uint8 and batch["images"].shape == (4, 3, 16, 16, 3)


def test_memory_is_that_of_the_batches_ahead_and_the_two_that_a_loop_holds(loader) -> None:
    batch = next(iter(loader()))
    expected = 6 * sum(array.nbytes for array in batch.values()) + 2 * DECODER_BYTES
    assert loader(ahead=4, workers=2).memory() == expected


def test_no_more_batches_exist_than_stated() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    with Prefetcher(lambda _: Counted(), range(50), depth=4, workers=2) as batches:
        for _ in batches:
            pass
    assert 2 <= most <= 4 + 2


def test_two_threads_make_batches_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=120)
    with Prefetcher(lambda _: meeting.wait() >= 0, range(4), depth=2, workers=2) as batches:
        assert list(batches) == [True] * 4


def test_wrong_numbers_are_refused(loader) -> None:
    with pytest.raises(UserError, match="3 workers make 2 batches ahead"):
        list(loader(workers=3, ahead=2))
    with pytest.raises(UserError, match="steps 9 to 8"):
        loader(first=9)
