"""`lingbot storage`: what fills the state folder, and the removal of what nothing refers to."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.arguments import number

if TYPE_CHECKING:
    from pipelines.versions.garbage import Item

HELP = "report what the state folder holds and why, and collect what nothing refers to"
DAYS = 14.0


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    report = actions.add_parser("report", help="sizes by kind, and what could be removed")
    collecting = actions.add_parser(
        "collect", help="remove what no tag, version, alias, ledger entry or recent run refers to"
    )
    collecting.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    for action in (report, collecting):
        action.add_argument(
            "--keep-days", type=number, default=DAYS, metavar="N", help=f"what runs used so lately stays ({DAYS:g})"
        )
        action.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    from pipelines.versions.garbage import KINDS, collect, elsewhere, plan_collection, to_json

    items = plan_collection(args.keep_days)
    if args.action == "report":
        others = elsewhere()
        if args.json:
            print(to_json(items, others))
            return 0
        for kind in KINDS:
            of_kind = [item for item in items if item.kind == kind]
            loose = [item for item in of_kind if item.kept is None]
            print(
                f"{kind:13} {len(of_kind):5}  {_megabytes(of_kind):10.1f} MiB, of which nothing refers to "
                f"{len(loose)} ({_megabytes(loose):.1f} MiB)"
            )
        for name, size in others.items():
            print(f"{'elsewhere':13}        {size / 2**20:10.1f} MiB in {name}: never collected from here")
        return 0
    removed = [item for item in items if item.kept is None] if args.dry_run else collect(items)
    if args.json:
        print(to_json(removed, {}))
        return 0
    for item in removed:
        print(f"{'would remove' if args.dry_run else 'removed'} {item.kind} {item.name} ({item.size / 2**20:.1f} MiB)")
    what = "could be freed" if args.dry_run else "freed"
    kept = len(items) - len(removed)
    print(f"{_megabytes(removed):.1f} MiB {what}; {kept} kept, `lingbot storage report --json` says why each")
    return 0


def _megabytes(items: "Sequence[Item]") -> float:
    return sum(item.size for item in items) / 2**20
