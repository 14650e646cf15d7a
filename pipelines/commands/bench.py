"""`lingbot bench`: what a step of training, an inference and a batch cost here, as one JSON object on stdout."""

import argparse

HELP = "measure a training step, an inference or the loader of batches here"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    train = actions.add_parser("train", help="draws, forward, backward, clip and AdamW of one batch")
    infer = actions.add_parser("infer", help="one chunk of actions: prefix and Euler steps")
    for action, batch, steps in ((train, 4, 5), (infer, 1, 10)):
        action.add_argument("--preset", default="small", help="policy (default: small)")
        action.add_argument("--precision", default="fp32", help="fp32 or bf16 (default: fp32)")
        action.add_argument("--threads", type=int, help="threads (default: OMP_NUM_THREADS, else the idle cores)")
        action.add_argument("--compile", action="store_true", help="torch.compile of each block; needs g++")
        action.add_argument("--batch", type=int, default=batch, help=f"observations (default: {batch})")
        action.add_argument("--steps", type=int, default=steps, help=f"measured steps; median (default: {steps})")
        action.add_argument("--attention", default="auto", help="back end: auto, explicit, sdpa, flex or dense")
    train.add_argument("--draws", type=int, default=1, help="noise draws an observation (default: 1)")
    loader = actions.add_parser("loader", help="batches from packed shards, beside random access into the videos")
    loader.add_argument("--image-size", type=int, default=224, help="pixels of a view (default: 224)")
    loader.add_argument("--batch", type=int, default=32, help="samples (default: 32)")
    loader.add_argument("--batches", type=int, default=40, help="measured batches of a codec (default: 40)")
    loader.add_argument("--video-batches", type=int, default=2, help="measured batches of the videos (default: 2)")
    loader.add_argument("--workers", type=int, default=2, help="threads (default: 2)")
    loader.add_argument("--variants", help="some of jpeg,uint8,h264,video,pool (default: all)")
    loader.add_argument("--episodes", type=int, default=6, help="of the made-up recording (default: 6)")
    loader.add_argument("--frames", type=int, default=120, help="of each episode (default: 120)")


def run(args: argparse.Namespace) -> int:
    return _run_loader(args) if args.action == "loader" else _run_policy(args)


def _run_loader(args: argparse.Namespace) -> int:
    import json
    import platform
    import sys

    import av
    import numpy
    import simplejpeg

    from components.provenance import hardware
    from model.benchmark.loader import VARIANTS, LoaderSettings, measure_loader

    settings = LoaderSettings(
        image_size=args.image_size,
        batch=args.batch,
        batches=args.batches,
        video_batches=args.video_batches,
        workers=args.workers,
        variants=tuple(args.variants.split(",")) if args.variants else VARIANTS,
        episodes=args.episodes,
        frames=args.frames,
    )
    figures = measure_loader(settings, message=lambda text: print(text, file=sys.stderr, flush=True))
    versions = {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "av": av.__version__,
        "simplejpeg": simplejpeg.__version__,
    }
    print(json.dumps({**figures, "hardware": hardware(), "versions": versions}, indent=1))
    return 0


def _run_policy(args: argparse.Namespace) -> int:
    import json
    import platform
    import sys

    import numpy
    import torch

    from components.provenance import hardware
    from model.benchmark.measure import run as measure
    from model.benchmark.settings import Settings
    from model.hardware import arithmetic_threads

    settings = Settings(
        task=args.action,
        preset=args.preset,
        precision=args.precision,
        threads=arithmetic_threads() if args.threads is None else args.threads,
        compile=args.compile,
        batch=args.batch,
        draws=args.draws if args.action == "train" else 1,
        steps=args.steps,
        attention=args.attention,
    )
    figures = measure(settings, message=lambda text: print(text, file=sys.stderr, flush=True))
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    print(json.dumps({**figures, "hardware": hardware(), "versions": versions}, indent=1))
    return 0
