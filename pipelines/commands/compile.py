"""`lingbot compile`: a pipeline as the YAML that Kubeflow takes."""

import argparse
from pathlib import Path

from pipelines.options import add_parameter_options, add_pipeline_argument, check_pipeline, settings_of

HELP = "write a pipeline as KFP's YAML for a cluster"


def configure(parser: argparse.ArgumentParser) -> None:
    add_pipeline_argument(parser)
    parser.add_argument("--profile", default="cluster", help="cluster (the default) or the path of a profile file")
    parser.add_argument("--output", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    check_pipeline(args.pipeline)
    from pipelines.compile import compile_pipeline
    from pipelines.parameters import load_parameters
    from pipelines.profile import load_profile

    parameters = load_parameters(args.params, settings_of(args))
    path = compile_pipeline(parameters, load_profile(args.profile), args.output, args.pipeline)
    print(path)
    return 0
