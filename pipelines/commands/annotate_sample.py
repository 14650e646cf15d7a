"""`lingbot annotate sample`: which segments to review."""

import argparse
from pathlib import Path

HELP = "draw what to review: the least confident segments, and a random control"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotations", metavar="ANNOTATIONS", type=Path, help="what the step annotate wrote: a folder or a .parquet"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the sample: a new .json")
    parser.add_argument(
        "--least-confident", type=int, default=20, metavar="N", help="segments that are least confident (default 20)"
    )
    parser.add_argument("--control", type=int, default=50, metavar="N", help="segments drawn at random (default 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random control (default 0)")


def run(args: argparse.Namespace) -> int:
    from components.annotate.errors import planned
    from components.annotate.new_files import check_new_file
    from components.annotate.sampling import draw_sample
    from components.state import write_json
    from model.data.annotations import read_annotations

    check_new_file(args.output, "--output", ".json")
    rows = read_annotations(args.annotations)
    sample = draw_sample(rows, least=args.least_confident, control=args.control, seed=args.seed)
    write_json(args.output, sample)
    print(
        f"{args.output}: {len(sample['episodes'])} episodes to review, with {args.least_confident} segments that are "
        f"least confident and {args.control} drawn at random from {sample['population']}"
    )
    if args.control:
        told = (
            f"{rate:.0%} ({low:.0%} to {high:.0%})" for rate, low, high in planned(args.control, sample["population"])
        )
        print(f"error rates that the control can tell, with their intervals: {', '.join(told)}")
    return 0
