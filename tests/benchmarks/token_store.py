"""Random three-view reads a second from the token store, as a Markdown table.

    .venv/bin/python tests/benchmarks/token_store.py [--store FOLDER] [--codecs int8 ...] [--processes 2]

Without a store, one of random tokens with the demo's shape (64 tokens of 192 channels) is written for each codec. The
files are read once first, so the figure is of the page cache. The peer, measured in the same run, is the plain way: one
float32 array on disk, mapped by numpy, and a copy of the chosen rows.
"""

import argparse
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

from model.benchmark.tokens import BATCH, measure_reads, write_random_store
from model.depth.codec import CODECS

HEADER = (
    "| codec | processes | reads/s | CPU s a 1,000 reads | MB on disk |\n|---|---|---|---|---|"
)  # fmt: skip


def plain_reads(folder: Path, frames: int, seconds: float) -> tuple[float, float, float]:
    """Reads a second of one process, CPU seconds a thousand, and megabytes of the mapped float32 array."""
    path = folder / "plain.npy"
    np.save(path, np.zeros((frames, 3, 64, 192), np.float32))
    array = np.load(path, mmap_mode="r")
    np.asarray(array).sum()
    rng = np.random.default_rng(0)
    reads, began, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        array[rng.integers(0, frames, BATCH)].copy()
        reads += BATCH
    cpu = time.process_time() - spent
    return reads / (time.perf_counter() - began), 1000 * cpu / reads, path.stat().st_size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--codecs", nargs="+", default=list(CODECS), choices=CODECS)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--frames", type=int, default=4000)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of each process
    load = os.getloadavg()[0]
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, numpy {np.__version__}\n")
    print(HEADER)
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"": arguments.store} if arguments.store else {}
        for codec in () if arguments.store else arguments.codecs:
            folders[codec] = Path(scratch) / codec
            write_random_store(folders[codec], codec=codec, frames=arguments.frames)
        for folder in folders.values():
            found = measure_reads(folder, processes=arguments.processes)
            print(
                f"| {found.codec} | {found.processes} | {found.reads_per_second:,.0f} | {found.seconds_of_cpu:.3f} "
                f"| {found.megabytes:,.0f} |",
                flush=True,
            )
        rate, cpu, megabytes = plain_reads(Path(scratch), min(arguments.frames, 2000), 2.0)
        print(f"| float32, mapped by numpy | 1 | {rate:,.0f} | {cpu:.3f} | {megabytes:,.0f} |")


if __name__ == "__main__":
    main()
