"""`lingbot trigger`: starts a run on a cluster when data arrives, once for each digest of a dataset."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.arguments import number
from pipelines.options import PIPELINES, add_image_options, check_pipeline, profile_of

if TYPE_CHECKING:
    from pipelines.triggers.starting import Started, Trigger

HELP = "start a run on a cluster when data arrives: once for each digest of a dataset, whoever asks and however often"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    data = actions.add_parser(
        "data", help="a dataset, when it is whole and at rest; or those of a bucket's notification"
    )
    data.add_argument("address", nargs="*", metavar="URI", help="s3://bucket/prefix of a LeRobot dataset")
    data.add_argument(
        "--event", default="", metavar="JSON", help="the notification of a bucket; - reads it from standard input"
    )
    data.add_argument(
        "--give-up", type=number, default=3600.0, metavar="S", help="end after so long without a whole dataset (3600)"
    )
    watching = actions.add_parser("watch", help="each dataset below a prefix, those that are there and those that come")
    watching.add_argument("address", metavar="URI", help="s3://bucket/prefix")
    watching.add_argument("--dry-run", action="store_true", help="say which datasets are there and have a run, and end")
    tag = actions.add_parser("tag", help="the dataset of a DVC tag, put into the profile's storage")
    tag.add_argument("tag", metavar="TAG", help="for example data/cubes-v1")
    for action in (data, watching):
        action.add_argument(
            "--settle",
            type=number,
            default=120.0,
            metavar="S",
            help="a dataset is at rest when unchanged so long (120)",
        )
        action.add_argument("--every", type=number, default=30.0, metavar="S", help="time between two looks (30)")
    for action in (data, tag):
        action.add_argument("--wait", action="store_true", help="follow what was started; the exit code is the run's")
    for action in (data, watching, tag):
        action.add_argument("--pipeline", default=PIPELINES[0], help=f"{PIPELINES[0]} (the default)")
        action.add_argument("--profile", default="cluster", help="cluster (the default), h100, or a profile file")
        action.add_argument("--params", type=Path, metavar="FILE", help="instead of params.yaml of the checkout")
        action.add_argument("--preset", help="demo (the default) or debug")
        action.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter")
        add_image_options(action)


def run(args: argparse.Namespace) -> int:
    trigger = _trigger(args)
    if args.action == "tag":
        started = trigger.start_tag(args.tag)
        return _follow(trigger, [started]) if args.wait else 0
    from model.errors import UserError
    from pipelines.triggers.starting import start_when_settled, watch

    if not args.every > 0:
        raise UserError(f"--every is {args.every:g}: it must be more than 0 seconds")
    if args.action == "data" and args.give_up < 0:
        raise UserError(f"--give-up is {args.give_up:g}: it must be 0 seconds or more")
    if args.action == "watch":
        if args.dry_run:
            return _dry_run(trigger, args.address)
        watch(trigger, args.address, settle=args.settle, every=args.every)
        return 0
    runs = start_when_settled(trigger, _addresses(args), settle=args.settle, give_up=args.give_up, every=args.every)
    return _follow(trigger, runs) if args.wait else 0


def _addresses(args: argparse.Namespace) -> list[str]:
    from model.errors import UserError
    from pipelines.triggers.events import datasets_of

    if bool(args.address) == bool(args.event):
        raise UserError("give the addresses of datasets, or --event with the notification of a bucket")
    if args.address:
        return list(args.address)
    found = datasets_of(sys.stdin.read() if args.event == "-" else args.event)
    if not found:
        print("the notification is about no dataset")
    return found


def _trigger(args: argparse.Namespace) -> "Trigger":
    from model.errors import UserError
    from pipelines.cluster.api import connect
    from pipelines.parameters import load_parameters
    from pipelines.triggers.starting import Trigger

    check_pipeline(args.pipeline)
    profile = profile_of(args)
    if profile.runner != "cluster":
        raise UserError(f"profile '{args.profile}' runs here, where nothing waits for data: give one of a cluster")
    settings = [*([f"preset={args.preset}"] if args.preset else []), *args.set]
    load_parameters(args.params, settings)  # what is wrong with them is said now, and not when data has come
    return Trigger(
        pipeline=args.pipeline,
        profile=profile,
        kfp=connect(experiment=profile.experiment, service_account=profile.service_account),
        settings=settings,
        params=args.params,
        stream=sys.stdout,
    )


def _dry_run(trigger: "Trigger", address: str) -> int:
    from pipelines.triggers.arrivals import arrivals, lack_of

    for arrival in arrivals(address):
        there = trigger.run_of(arrival.digest)
        state = f"has run {there}" if there else lack_of(arrival) or "would be run"
        print(f"{arrival.address}  {arrival.digest[:12]}  {arrival.bytes / 2**20:.1f} MiB  {state}")
    return 0


def _follow(trigger: "Trigger", runs: "Sequence[Started]") -> int:
    """Follows the runs to their ends, those too that somebody else started; the worst exit code."""
    from pipelines.cluster.console import watch

    return max((one.run.follow() if one.run else watch(trigger.kfp, one.run_id) for one in runs), default=0)
