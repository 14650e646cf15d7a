"""`lingbot compare A B`: two runs, releases or versions side by side."""

import argparse
from pathlib import Path

from pipelines.commands.reproduce import REFERENCE

HELP = "compare two runs, releases or versions: data, parameters, code, bytes, figures, trials, environment"


def configure(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, metavar="REF", help=REFERENCE)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page too")
    parser.add_argument("--quick", action="store_true", help="by what is recorded alone: no file is read or fetched")
    parser.add_argument("--remote", metavar="URL", help="where the data was pushed, if not to DVC's default remote")


def run(args: argparse.Namespace) -> int:
    import json
    import sys

    from pipelines.versions.comparison import compare, comparison_lines
    from pipelines.versions.targets import load_result

    first, second = load_result(args.first), load_result(args.second)
    comparison = compare(first, second)
    if not args.quick:
        from pipelines.versions.contents import contents_of
        from pipelines.versions.differences import differences

        sides = (contents_of(reference, remote=args.remote) for reference in (args.first, args.second))
        comparison["differences"] = differences(first, second, *sides)
    if args.html:
        from pipelines.versions.comparison_page import write_page

        print(f"written to {write_page(comparison, args.html)}", file=sys.stderr)
    if args.json:
        print(json.dumps(comparison, indent=1))
    else:
        print("\n".join(comparison_lines(comparison)))
    return 0
