"""`lingbot runs`: what ran here or on a cluster, how it goes, and how to end it, take it up again, or repeat it."""

import argparse
from typing import TYPE_CHECKING

from pipelines.options import add_image_options, add_parameter_options, add_pipeline_argument

if TYPE_CHECKING:
    from pipelines.cluster.api import Kubeflow

HELP = "list runs, show, watch, cancel or retry one, or have one start by the clock"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the last runs, newest first")
    listing.add_argument("--limit", type=int, default=20, help="how many (default 20)")
    listing.add_argument("--json", action="store_true", help="as JSON, a line a run")
    listing.add_argument(
        "--profile", default="laptop", help="of a cluster: all runs of its experiment, whoever started them"
    )
    showing = actions.add_parser("show", help="one run: its steps, its summary, its error")
    showing.add_argument("--json", action="store_true", help="the whole record as JSON")
    watching = actions.add_parser("watch", help="follow a run to its end; its exit code is the run's")
    cancelling = actions.add_parser("cancel", help="end a run that goes on")
    retrying = actions.add_parser("retry", help="take up a run that failed or was stopped: what is finished stays")
    retrying.add_argument("--no-wait", action="store_true", help="on a cluster: do not follow it")
    for action in (showing, watching, cancelling, retrying):
        action.add_argument("run", metavar="RUN", help="an id of `lingbot runs list`, one of Kubeflow's, or `last`")
    schedule = actions.add_parser("schedule", help="have Kubeflow start a pipeline by the clock, or end that")
    add_pipeline_argument(schedule)
    schedule.add_argument("--cron", metavar="'M H D M W'", help="when, in UTC: '0 3 * * *' is every night at three")
    schedule.add_argument("--name", default="", help="of the schedule; the pipeline's name, when left out")
    schedule.add_argument("--list", action="store_true", help="the schedules that there are")
    schedule.add_argument("--remove", action="store_true", help="end the schedule of that name")
    schedule.add_argument("--profile", default="cluster", help="cluster (the default), h100, or a profile file")
    add_image_options(schedule)
    add_parameter_options(schedule)


def run(args: argparse.Namespace) -> int:
    if args.action == "list":
        return _list(args)
    if args.action == "schedule":
        return _schedule(args)
    return _one(args)


def _list(args: argparse.Namespace) -> int:
    from model.errors import UserError
    from pipelines.profile import load_profile

    if args.limit < 1:
        raise UserError(f"--limit is {args.limit}: it must be 1 or more")
    profile = load_profile(args.profile)
    if profile.runner == "cluster":
        from pipelines.cluster.api import connect
        from pipelines.cluster.console import print_list

        print_list(connect(experiment=profile.experiment), args.limit, args.json)
    else:
        from pipelines.history import print_list as print_local

        print_local(args.limit, args.json)
    return 0


def _one(args: argparse.Namespace) -> int:
    from pipelines.cluster import records
    from pipelines.history import known_runs, print_run

    reference = args.run
    if reference == "last" and (known := sorted([*known_runs(), *records.known()])):
        reference = known[-1]
    record = records.find(reference)
    if record is not None or records.is_kubeflows(reference):
        return _on_cluster(args, reference, _connect(record["experiment"] if record else ""))
    if args.action == "show":
        print_run(reference, args.json)
        return 0
    from pipelines import going

    if args.action == "watch":
        return going.watch(reference)
    if args.action == "cancel":
        going.cancel(reference)
        return 0
    return going.retry(reference)


def _connect(experiment: str) -> "Kubeflow":
    from pipelines.cluster.api import EXPERIMENT, connect

    return connect(experiment=experiment or EXPERIMENT)


def _on_cluster(args: argparse.Namespace, reference: str, kfp: "Kubeflow") -> int:
    from pipelines.cluster import console

    if args.action == "show":
        console.show(kfp, reference, args.json)
        return 0
    if args.action == "watch":
        return console.watch(kfp, reference)
    if args.action == "cancel":
        console.cancel(kfp, reference)
        return 0
    return console.retry(kfp, reference, wait=not args.no_wait)


def _schedule(args: argparse.Namespace) -> int:
    from model.errors import UserError
    from pipelines.cluster import schedule
    from pipelines.cluster.api import connect
    from pipelines.options import check_pipeline, parameters_for, profile_of
    from pipelines.profile import load_profile

    check_pipeline(args.pipeline)
    profile = load_profile(args.profile)
    if profile.runner != "cluster":
        raise UserError(f"profile '{args.profile}' runs here, which no clock starts: give one of a cluster")
    kfp = connect(experiment=profile.experiment, service_account=profile.service_account)
    if args.list:
        schedule.print_schedules(kfp)
        return 0
    name = args.name or args.pipeline
    if args.remove:
        schedule.remove(kfp, name)
        return 0
    if not args.cron:
        raise UserError("--cron is missing: say when, for example --cron '0 3 * * *' for every night at three (UTC)")
    profile = profile_of(args)
    schedule.add(kfp, name, args.cron, args.pipeline, parameters_for(args, profile), profile)
    return 0
