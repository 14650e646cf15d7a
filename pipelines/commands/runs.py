"""`lingbot runs`: what ran here, and how it went."""

import argparse

HELP = "list the runs on this machine, or show one"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the last runs, newest first")
    listing.add_argument("--limit", type=int, default=20, help="how many (default 20)")
    listing.add_argument("--json", action="store_true", help="as JSON, a line a run")
    showing = actions.add_parser("show", help="one run: its steps, its summary, its error")
    showing.add_argument("run", metavar="RUN", help="an id of `lingbot runs list`, or `last`")
    showing.add_argument("--json", action="store_true", help="the whole record as JSON")


def run(args: argparse.Namespace) -> int:
    from pipelines.history import print_list, print_run

    if args.action == "list":
        print_list(args.limit, args.json)
    else:
        print_run(args.run, args.json)
    return 0
