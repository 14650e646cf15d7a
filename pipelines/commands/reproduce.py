"""`lingbot reproduce REF`: the same code, data and parameters again, and what came out beside what was recorded."""

import argparse
import sys
from functools import partial

HELP = "do a released experiment, a data release or a run again, and compare the result"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="a tag exp/NAME-vN or data/NAME-vN, or a run (or `last`)")
    parser.add_argument("--remake-data", action="store_true", help="make the data again instead of fetching it")
    parser.add_argument("--remote", metavar="URL", help="where the data was pushed, if not to DVC's default remote")
    parser.epilog = "Exit code 0: bitwise equal. 3: within tolerance. 4: different. 2: it cannot be done. 1: a fault."


def run(args: argparse.Namespace) -> int:
    from pipelines.comparison import comparison_lines
    from pipelines.reproduction import EXIT_CODES, Failed, find_target, reproduce

    target = find_target(args.reference, remote=args.remote)
    try:
        comparison, folder = reproduce(target, partial(print, flush=True), remake_data=args.remake_data)
    except Failed as failed:
        print(f"lingbot: {failed}", file=sys.stderr)
        return failed.code
    for line in comparison_lines(comparison):
        print(line)
    print(f"written to {folder / 'comparison.json'}")
    return EXIT_CODES[comparison["outcome"]]
