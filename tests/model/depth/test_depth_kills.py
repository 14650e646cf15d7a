"""kill -9 at random moments: at most the shard being written is lost, none is ever damaged, and the end is the same."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from model.depth.finish import STORE, finish_store
from model.depth.shard import open_shard
from model.depth.writer import finished_shard
from tests.model.depth.random_shards import layout, write_shard

# Ten shards; those of the episodes from 10 on repeat the frames of those before, so finishing shares views.
WRITE = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from random_shards import extract_all
print("ready", flush=True)
extract_all(Path({store!r}))
print("done", flush=True)
"""
SHARDS = 10


def extract(store: Path, wait: float | None) -> tuple[bool, float]:
    """One attempt in a process of its own, killed `wait` seconds after it is ready.

    Returns:
        Whether it came to its end, and the seconds since it was ready.
    """
    tests = Path(__file__).parent
    code = WRITE.format(tests=str(tests), root=str(tests.parents[2]), store=str(store))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        began = time.perf_counter()
        if wait is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait)
            process.send_signal(signal.SIGKILL)
        return process.stdout.read() == "done\n", time.perf_counter() - began


def content(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def check_whole(store: Path, finished: dict[str, bytes], unshared: dict[str, bytes]) -> int:
    """Every shard that is in place is, to the last byte, the one that an undisturbed attempt writes; their number."""
    shards = sorted((store / "shards").glob("*")) if (store / "shards").exists() else []
    for path in shards:
        name = f"shards/{path.name}"
        open_shard(path)
        assert path.read_bytes() in (finished[name], unshared[name]), f"{path.name} is neither whole form"
    return len(shards)


def kill_until_done(root: Path, rng: np.random.Generator, kills: int) -> int:
    """Kills attempts at random moments and checks what they leave; the number of kills that hit."""
    done, span = extract(root / "wanted", None)
    assert done
    finished = content(root / "wanted")
    for first in range(0, 2 * SHARDS, 2):
        write_shard(root / "unshared", layout(tokens=16), first, 20, repeats=SHARDS)
    unshared = content(root / "unshared")
    hits = 0
    store, attempt = root / "0", 0
    while hits < kills:
        ended, seconds = extract(store, float(rng.uniform(0, span)))
        if ended:
            span = min(span, seconds)  # the first attempt was slower than this one: most moments would come too late
            assert content(store) == finished
            attempt += 1
            store = root / str(attempt)
            continue
        hits += 1
        before = check_whole(store, finished, unshared)
        assert not (store / STORE).exists() or before == SHARDS, "store.json comes last"
    assert extract(store, None)[0]
    assert content(store) == finished
    return hits


def test_a_few_kills_and_then_the_same_bytes(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path, np.random.default_rng(0), 4) == 4


@pytest.mark.soak
def test_many_kills_and_then_the_same_bytes(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path, np.random.default_rng(), 300) == 300


def test_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    like = layout(tokens=16)
    write_shard(tmp_path, like, 0, 20)
    before = (tmp_path / "shards/000000-000001.safetensors").stat().st_mtime_ns
    assert finished_shard(tmp_path, like, 0, 1, 40) is not None
    finish_store(tmp_path, like, [(0, 1, 40)], {"teacher": {"weights_digest": "w"}, "preprocessing": {}, "rate": 10.0})
    assert (tmp_path / "shards/000000-000001.safetensors").stat().st_mtime_ns == before
