"""`lingbot annotate sample`: which segments to review."""

import argparse
from pathlib import Path

HELP = "draw what to review: the least confident segments, and a random control"
LEAST_CONFIDENT, CONTROL = 20, 50  # a control of 50 tells a rate of 10% as 3% to 22%


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_run

    parser.add_argument(
        "annotations", nargs="?", metavar="ANNOTATIONS", type=Path,
        help="a folder or a .parquet, reviewed or not; left out: the annotations of a run",
    )  # fmt: skip
    add_run(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the sample: a new .json")
    parser.add_argument(
        "--least-confident", type=int, metavar="N",
        help=f"segments that are least confident (default {LEAST_CONFIDENT}, or all of fewer)",
    )  # fmt: skip
    parser.add_argument(
        "--control", type=int, metavar="N", help=f"segments drawn at random (default {CONTROL}, or all of fewer)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random control (default 0)")


def run(args: argparse.Namespace) -> int:
    from components.annotate.errors import planned
    from components.annotate.new_files import check_new_file
    from components.annotate.sampling import draw_sample, population
    from components.state import write_json
    from model.data.annotations import read_annotations
    from model.errors import UserError
    from pipelines.annotated import annotations_of_run

    check_new_file(args.output, "--output", ".json")
    if args.annotations is not None and args.run is not None:
        raise UserError(f"ANNOTATIONS is '{args.annotations}' and --run is '{args.run}': give one of them.")
    rows = read_annotations(args.annotations or annotations_of_run(args.run))
    there = len(population(rows))
    if not there:
        raise UserError(f"{args.annotations or 'the run'} has no segment that nobody has accepted: nothing to draw.")
    least = min(LEAST_CONFIDENT, there) if args.least_confident is None else args.least_confident
    control = min(CONTROL, there) if args.control is None else args.control
    sample = draw_sample(rows, least=least, control=control, seed=args.seed)
    write_json(args.output, sample)
    print(
        f"{args.output}: {len(sample['episodes'])} episodes to review, with {least} segments that are "
        f"least confident and {control} drawn at random from {there}"
    )
    if control:
        told = (f"{rate:.0%} ({low:.0%} to {high:.0%})" for rate, low, high in planned(control, there))
        print(f"error rates that the control can tell, with their intervals: {', '.join(told)}")
    return 0
