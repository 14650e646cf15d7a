"""`lingbot run`: the DAG from here, on this machine or on a cluster."""

import argparse

from pipelines.options import add_parameter_options, add_pipeline_argument, check_pipeline, data_of, settings_of

HELP = "run a pipeline: what is finished is reused, what was interrupted goes on"


def configure(parser: argparse.ArgumentParser) -> None:
    add_pipeline_argument(parser)
    parser.add_argument("--profile", default="laptop", help="laptop (the default) or the path of a profile file")
    parser.add_argument("--record", metavar="NAME", help="release what it made as the experiment exp/NAME-vN")
    parser.add_argument(
        "--remote", metavar="URL", help="for --record: a folder or s3://bucket/prefix instead of DVC's default remote"
    )
    add_parameter_options(parser)


def run(args: argparse.Namespace) -> int:
    from model.errors import UserError
    from pipelines.parameters import load_parameters
    from pipelines.profile import load_profile
    from pipelines.release import check_can_release, record_experiment
    from pipelines.run import LocalRun
    from pipelines.shape import MAIN

    check_pipeline(args.pipeline)
    if args.record:
        if args.pipeline != MAIN:
            raise UserError(f"--record {args.record} is of a run of {MAIN}: a run of {args.pipeline} makes no release")
        check_can_release(args.record)
    profile = load_profile(args.profile)
    if profile.runner != "local":
        raise UserError(
            f"profile '{args.profile}' is of a cluster, and this command runs here: write the pipeline with "
            f"`lingbot compile {args.pipeline} --profile {args.profile}` and upload it there"
        )
    parameters = load_parameters(args.params, settings_of(args))
    run = LocalRun(args.pipeline, parameters, profile, data_of(args))
    code = run.execute()
    if code == 0 and args.record:
        from pipelines.release import record_experiment

        release = record_experiment(run.id, args.record, remote=args.remote)
        print(
            f"recorded {release.tag} with the data {release.record['data']['tag']}: `lingbot reproduce {release.tag}`"
        )
    return code
