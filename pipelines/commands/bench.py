"""`lingbot bench`: what a training step and an inference cost on this machine, as one JSON object on stdout."""

import argparse

HELP = "measure a training step or an inference here, beside the machine's own matrix rate"


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


def run(args: argparse.Namespace) -> int:
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
