"""The loader's figures as a Markdown table: packed shards in each codec beside random access into GOP-30 video.

    .venv/bin/python tests/benchmarks/loader.py [--batches 200] [--json figures.json]

Everything is measured in this run on one made-up recording (model/benchmark/recording.py): 480x640 h264, a key frame
every 30, three views; batches of 32 at 224 px, uint8 out, two threads. The targets are at least 1,000 samples a second
and 20 times the videos. On a busy machine read the columns of CPU time: what two cores give that do nothing else.
"""

import argparse
import json
import platform
from datetime import date
from pathlib import Path

import av
import numpy as np
import simplejpeg

from components.provenance import hardware
from model.benchmark.loader import LoaderSettings, measure_loader

HEADER = (
    "| loader | samples/s | of CPU time | CPU ms a sample | times video | KB a frame | stated MB | measured MB |"
    "\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="of each codec and the pool")
    parser.add_argument("--video-batches", type=int, default=4)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    args = parser.parse_args()
    settings = LoaderSettings(batches=args.batches, video_batches=args.video_batches)
    figures = measure_loader(settings, message=lambda text: print(text, flush=True))
    machine = hardware()
    print(f"\n{date.today()}, {json.dumps(machine)}, load average {figures['load_average'][0]:.1f}")
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, av {av.__version__}, "
        f"simplejpeg {simplejpeg.__version__}; {settings.workers} threads, batch {settings.batch}, "
        f"{settings.image_size} px\n\n{HEADER}"
    )
    for name, own in figures["variants"].items():
        stored = f"{own['bytes_per_frame'] / 1e3:.1f}" if "bytes_per_frame" in own else ""
        grown = "" if own["grown_bytes"] is None else f"{own['grown_bytes'] / 1e6:.0f}"
        print(
            f"| {name} | {own['samples_per_second']:.0f} | {own['samples_per_second_of_cpu']:.0f} "
            f"| {own['cpu_ms_per_sample']:.2f} | {figures['times_video'][name]:.1f} | {stored} "
            f"| {own['stated_bytes'] / 1e6:.0f} | {grown} |"
        )
    if args.json:
        args.json.write_text(json.dumps(figures | {"hardware": machine, "date": str(date.today())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
