"""`lingbot run`: the DAG from here, on this machine or on a cluster."""

import argparse
from typing import TYPE_CHECKING

from pipelines.options import (
    add_image_options,
    add_parameter_options,
    add_pipeline_argument,
    check_pipeline,
    data_of,
    parameters_for,
    profile_of,
)

if TYPE_CHECKING:
    from pipelines.profile import Profile

HELP = "run a pipeline: what is finished is reused, what was interrupted goes on"


def configure(parser: argparse.ArgumentParser) -> None:
    add_pipeline_argument(parser)
    parser.add_argument("--profile", default="laptop", help="laptop (the default), cluster, h100, or a profile file")
    parser.add_argument("--record", metavar="NAME", help="release what it made as the experiment exp/NAME-vN")
    parser.add_argument(
        "--remote", metavar="URL", help="for --record: a folder or s3://bucket/prefix instead of DVC's default remote"
    )
    add_parameter_options(parser)
    cluster = parser.add_argument_group("on a cluster")
    add_image_options(cluster)
    cluster.add_argument("--no-wait", action="store_true", help="start it and leave; `lingbot runs watch` comes back")
    cluster.add_argument(
        "--once", metavar="TEXT", help="one run of this text, such as a commit, however often it is started"
    )
    cluster.add_argument(
        "--cancel-on-interrupt", action="store_true", help="Ctrl-C cancels the run, and does not only leave it"
    )


def run(args: argparse.Namespace) -> int:
    from model.errors import UserError
    from pipelines.shape import MAIN

    check_pipeline(args.pipeline)
    profile = profile_of(args)
    if args.record and args.pipeline != MAIN:
        raise UserError(f"--record {args.record} is of a run of {MAIN}: a run of {args.pipeline} makes no release")
    if args.record and profile.runner == "cluster":
        raise UserError(
            f"--record {args.record} takes what a run made here: a run of '{args.profile}' is on its cluster"
        )
    if args.once is not None and not args.once.strip():
        raise UserError("--once is empty: give what the run is of, such as a commit; without it each run is new")
    for option, given in (
        ("no-wait", args.no_wait),
        ("once", args.once),
        ("cancel-on-interrupt", args.cancel_on_interrupt),
    ):
        if given and profile.runner == "local":
            raise UserError(f"--{option} is of runs on a cluster, and '{args.profile}' runs here: leave it out")
    return _cluster(args, profile) if profile.runner == "cluster" else _local(args, profile)


def _local(args: argparse.Namespace, profile: "Profile") -> int:
    from pipelines.run import LocalRun
    from pipelines.versions.release import check_can_release, record_experiment

    if args.record:
        check_can_release(args.record)
    run = LocalRun(args.pipeline, parameters_for(args, profile), profile, data_of(args))
    code = run.execute()
    if code == 0 and args.record:
        release = record_experiment(run.id, args.record, remote=args.remote)
        print(
            f"recorded {release.tag} with the data {release.record['data']['tag']}: `lingbot reproduce {release.tag}`"
        )
    return code


def _cluster(args: argparse.Namespace, profile: "Profile") -> int:
    from pipelines.cluster.api import connect
    from pipelines.cluster.leaving import leaving
    from pipelines.cluster.run import ClusterRun

    kfp = connect(experiment=profile.experiment, service_account=profile.service_account)
    parameters = parameters_for(args, profile)
    run = ClusterRun(args.pipeline, parameters, profile, data_of(args), name=args.once or "", kfp=kfp)
    run_id = run.submit()
    if args.no_wait:
        run.say(f"  watch it: lingbot runs watch {run.id}")
        return 0
    with leaving(run.kfp, run_id, run.id, cancel=args.cancel_on_interrupt) as left:
        return run.follow()
    return left.code
