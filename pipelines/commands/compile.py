"""`lingbot compile`: pipelines as the YAML that Kubeflow takes."""

import argparse
from pathlib import Path

from pipelines.options import PIPELINES, add_parameter_options, check_pipeline, settings_of

HELP = "write pipelines as KFP's YAML for a cluster"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", nargs="?", default="", help=f"one of {', '.join(PIPELINES)}; all, when left out")
    parser.add_argument("--profile", default="cluster", help="cluster (the default), h100, laptop, or a profile file")
    parser.add_argument("--output", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    parser.add_argument(
        "--images", type=Path, metavar="FILE", help="images by digest, as containers/build.py --push writes them"
    )
    parser.add_argument(
        "--allow-tags", action="store_true", help="take images that are named by a tag, which can be moved"
    )
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.pipeline:
        check_pipeline(args.pipeline)
    from model.errors import UserError
    from pipelines.compile import compile_pipeline
    from pipelines.parameters import load_parameters
    from pipelines.profile import load_images, load_profile

    profile = load_profile(args.profile)
    if args.images:
        profile = profile.with_images(load_images(args.images))
    if profile.runner == "cluster" and profile.tagged() and not args.allow_tags:
        raise UserError(
            f"the images of {', '.join(profile.tagged())} are named by tags, under which others can be pushed: give "
            "--images FILE (containers/build.py --push REGISTRY writes it), or --allow-tags"
        )
    parameters = load_parameters(args.params, settings_of(args))
    for pipeline in (args.pipeline,) if args.pipeline else PIPELINES:
        print(compile_pipeline(parameters, profile, args.output, pipeline))
    return 0
