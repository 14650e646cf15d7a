"""`lingbot compile`: pipelines as the YAML that Kubeflow takes."""

import argparse
from pathlib import Path

from pipelines.options import (
    PIPELINES,
    add_image_options,
    add_parameter_options,
    check_pipeline,
    parameters_for,
    profile_of,
)

HELP = "write pipelines as KFP's YAML for a cluster"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", nargs="?", default="", help=f"one of {', '.join(PIPELINES)}; all, when left out")
    parser.add_argument("--profile", default="cluster", help="cluster (the default), h100, laptop, or a profile file")
    parser.add_argument("--output", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    add_image_options(parser)
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.pipeline:
        check_pipeline(args.pipeline)
    from pipelines.compile import compile_pipeline

    profile = profile_of(args)
    parameters = parameters_for(args, profile)
    for pipeline in (args.pipeline,) if args.pipeline else PIPELINES:
        print(compile_pipeline(parameters, profile, args.output, pipeline))
    return 0
