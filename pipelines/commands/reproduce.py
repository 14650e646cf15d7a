"""`lingbot reproduce REF`: the same code, data and parameters again, and what came out beside what was recorded."""

import argparse
import sys
from functools import partial

HELP = "do a release, a run or a registered version again, and compare the result"
REFERENCE = "a tag exp/NAME-vN or data/NAME-vN, a run (or `last`), or a version MODEL/N (or N, or its alias)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help=REFERENCE)
    parser.add_argument(
        "--only", choices=("evaluate",), help="fetch the trained policy and make the evaluation alone again"
    )
    parser.add_argument("--remake-data", action="store_true", help="make the data again instead of fetching it")
    parser.add_argument("--remote", metavar="URL", help="where the data was pushed, if not to DVC's default remote")
    parser.add_argument(
        "--fresh-environment", action="store_true", help="install the packages that the commit pins, and use those"
    )
    parser.epilog = "Exit code 0: bitwise equal. 3: within tolerance. 4: different. 2: it cannot be done. 1: a fault."


def run(args: argparse.Namespace) -> int:
    from pipelines.versions.comparison import comparison_lines
    from pipelines.versions.reproduction import EXIT_CODES, Failed, reproduce
    from pipelines.versions.targets import find_target

    target = find_target(args.reference, remote=args.remote)
    try:
        comparison, folder = reproduce(
            target,
            partial(print, flush=True),
            remake_data=args.remake_data,
            only=args.only,
            fresh_environment=args.fresh_environment,
            remote=args.remote,
        )
    except Failed as failed:
        print(f"lingbot: {failed}", file=sys.stderr)
        return failed.code
    for line in comparison_lines(comparison):
        print(line)
    print(f"written to {folder / 'comparison.html'} and comparison.json beside it")
    return EXIT_CODES[comparison["outcome"]]
