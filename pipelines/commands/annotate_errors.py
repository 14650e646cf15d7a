"""`lingbot annotate errors`: how often the annotations are wrong, from a reviewed control."""

import argparse
import json
from pathlib import Path

from components.arguments import number

HELP = "the error rate of annotations, with its interval, from a control that was reviewed"


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_dataset

    add_dataset(parser)
    parser.add_argument("sample", metavar="SAMPLE", type=Path, help="what `lingbot annotate sample` wrote")
    parser.add_argument("reviewed", metavar="REVIEWED", type=Path, help="the annotations after the review")
    parser.add_argument(
        "--tolerance", type=number, default=0.2, metavar="SECONDS", help="an end moved by less is right (default 0.2)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from components.annotate.episodes import check_within
    from components.annotate.errors import error_rates
    from components.annotate.sampling import read_sample
    from model.errors import UserError
    from pipelines.annotated import open_named, rows_of
    from pipelines.tables import print_table

    if args.tolerance < 0:
        raise UserError(f"--tolerance is {args.tolerance:g} s: it must be 0 or more.")
    sample, dataset = read_sample(args.sample), open_named(args.dataset, args.run)
    lengths = {episode.index: episode.length for episode in dataset.episodes}
    check_within(sample["control"], lengths, str(args.sample))
    reviewed = rows_of(args.reviewed, dataset)
    found = error_rates(sample, reviewed, dataset.info.fps, tolerance=args.tolerance)
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    print(
        f"{found['control']} segments drawn at random from {found['population']}, {found['pending']} not reviewed yet"
    )
    lines = [["wrong by", "found", "rate", "95%"]]
    for kind, one in found["rates"].items():
        rate = "pending" if one["rate"] is None else f"{one['rate']:.1%}"
        lines.append([kind, str(one["wrong"]), rate, f"{one['low']:.1%} to {one['high']:.1%}"])
    print_table(lines)
    if found["pending"]:
        print("the interval takes what is not reviewed as all right at one end, and as all wrong at the other")
    return 0
