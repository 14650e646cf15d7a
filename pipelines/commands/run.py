"""`lingbot run`: the DAG from here, on this machine or on a cluster."""

import argparse

from pipelines.options import add_parameter_options, add_pipeline_argument, check_pipeline, settings_of

HELP = "run a pipeline: what is finished is reused, what was interrupted goes on"


def configure(parser: argparse.ArgumentParser) -> None:
    add_pipeline_argument(parser)
    parser.add_argument("--profile", default="laptop", help="laptop (the default) or the path of a profile file")
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    from model.errors import UserError
    from pipelines.parameters import load_parameters
    from pipelines.profile import load_profile
    from pipelines.run import LocalRun

    check_pipeline(args.pipeline)
    profile = load_profile(args.profile)
    if profile.runner != "local":
        raise UserError(
            f"profile '{args.profile}' is of a cluster, and this command runs here: write the pipeline with "
            f"`lingbot compile {args.pipeline} --profile {args.profile}` and upload it there"
        )
    parameters = load_parameters(args.params, settings_of(args))
    return LocalRun(args.pipeline, parameters, profile, args.profile).execute()
