"""`lingbot compare A B`: two runs or releases side by side."""

import argparse

HELP = "compare two runs or releases: parameters, bytes of each step, figures, environment"


def configure(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(name, metavar="REF", help="a run (or `last`), or a tag exp/NAME-vN or data/NAME-vN")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from pipelines.comparison import compare, comparison_lines
    from pipelines.targets import load_result

    comparison = compare(load_result(args.first), load_result(args.second))
    if args.json:
        print(json.dumps(comparison, indent=1))
    else:
        print("\n".join(comparison_lines(comparison)))
    return 0
