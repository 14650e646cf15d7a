"""`lingbot bench`: what a training step, an inference, a batch and a read of tokens cost, as one JSON on stdout."""

import argparse

from components.arguments import number

HELP = "measure a training step, an inference, the loader of batches, the token store or the endpoint here"


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
    tokens = actions.add_parser("tokens", help="random reads from stores of depth tokens, beside a mapped array")
    tokens.add_argument("--codecs", help="some of bf16,int8,pca128-int8 (default: all)")
    tokens.add_argument("--frames", type=int, default=4000, help="of a made-up store (default: 4000)")
    tokens.add_argument("--tokens", type=int, default=64, help="of a view (default: 64)")
    tokens.add_argument("--channels", type=int, default=192, help="of a token (default: 192)")
    tokens.add_argument("--processes", type=int, default=2, help="that read at once (default: 2)")
    tokens.add_argument("--seconds", type=number, default=2.0, help="of one of three repetitions (default: 2)")
    serve = actions.add_parser("serve", help="the endpoint's overhead, and many robots with and without batches")
    serve.add_argument("--robots", type=int, default=16, help="that ask at once (default: 16)")
    serve.add_argument("--seconds", type=number, default=10.0, help="of each load (default: 10)")
    serve.add_argument("--model-ms", type=number, default=50.0, help="of a call of the simulated model (default: 50)")
    serve.add_argument("--extra-ms", type=number, default=5.0, help="of each further observation in it (default: 5)")
    serve.add_argument("--image-size", type=int, default=224, help="pixels of each of three views (default: 224)")
    serve.add_argument("--questions", type=int, default=400, help="of one robot, for the overhead (default: 400)")
    serve.add_argument("--rounds", type=int, default=1, help="of both loads in turn (default: 1)")


def run(args: argparse.Namespace) -> int:
    runs = {"loader": _run_loader, "tokens": _run_tokens, "serve": _run_serve}
    return runs.get(args.action, _run_policy)(args)


def _run_serve(args: argparse.Namespace) -> int:
    import json
    import platform
    import sys
    from importlib.metadata import version

    from components.endpoint.benchmark.measure import ServeSettings, measure_serve
    from components.provenance import hardware

    settings = ServeSettings(
        robots=args.robots,
        seconds=args.seconds,
        model_seconds=args.model_ms / 1000,
        extra_seconds=args.extra_ms / 1000,
        image_size=args.image_size,
        questions=args.questions,
        rounds=args.rounds,
    )
    figures = measure_serve(settings, message=lambda text: print(text, file=sys.stderr, flush=True))
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("uvicorn", "websockets")}}
    print(json.dumps({**figures, "hardware": hardware(), "versions": versions}, indent=1))
    return 0


def _run_tokens(args: argparse.Namespace) -> int:
    import json
    import os
    import platform
    import sys

    import numpy

    from components.provenance import hardware
    from model.benchmark.tokens import TokenSettings, measure_tokens
    from model.depth.codec import CODECS

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each reading process
    settings = TokenSettings(
        codecs=tuple(args.codecs.split(",")) if args.codecs else CODECS,
        frames=args.frames,
        tokens=args.tokens,
        channels=args.channels,
        processes=args.processes,
        seconds=args.seconds,
    )
    figures = measure_tokens(settings, message=lambda text: print(text, file=sys.stderr, flush=True))
    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    print(json.dumps({**figures, "hardware": hardware(), "versions": versions}, indent=1))
    return 0


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
