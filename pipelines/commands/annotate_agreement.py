"""`lingbot annotate agreement`: how far two reviewers agree, and one annotation from both."""

import argparse
import json
from pathlib import Path
from typing import Any

from components.arguments import number

HELP = "Cohen's kappa and the distance of cuts between two reviewers, and the consensus of both"


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_dataset

    add_dataset(parser)
    parser.add_argument("first", metavar="FIRST", type=Path, help="annotations of one reviewer: a folder or a .parquet")
    parser.add_argument("second", metavar="SECOND", type=Path, help="those of the other")
    parser.add_argument(
        "--tolerance", type=number, default=0.2, metavar="SECONDS", help="two cuts this near are one (default 0.2)"
    )
    parser.add_argument("--consensus", type=Path, metavar="FILE", help="write one annotation from both: a new .parquet")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from components.annotate.agreement import compare
    from components.annotate.consensus import consensus, is_disputed
    from components.annotate.new_files import check_new_file
    from model.data.annotations import read_annotations, write_annotations
    from model.errors import UserError
    from pipelines.annotated import open_named

    if not args.tolerance > 0:
        raise UserError(f"--tolerance is {args.tolerance:g} s: it must be above 0.")
    if args.consensus is not None:
        check_new_file(args.consensus, "--consensus", ".parquet")
    dataset = open_named(args.dataset, args.run)
    first, second = read_annotations(args.first), read_annotations(args.second)
    lengths = {episode.index: episode.length for episode in dataset.episodes}
    found = compare(first, second, lengths, dataset.info.fps, tolerance=args.tolerance)
    if args.consensus is not None:
        rows = consensus(first, second, dataset.info.fps, tolerance=args.tolerance)
        write_annotations(args.consensus.parent, rows, args.consensus.name)
        disputed = [row for row in rows if is_disputed(row)]
        found["consensus"] = {
            "file": str(args.consensus),
            "disputed": len(disputed),
            "disputed_episodes": sorted({row["episode"] for row in disputed}),
        }
    print(json.dumps(found, indent=1) if args.json else _text(found))
    return 0


def _text(found: dict[str, Any]) -> str:
    names = [" + ".join(side) for side in found["reviewers"]]
    both, cuts = found["segments_in_both"], found["boundaries"]
    lines = [
        f"{names[0]} and {names[1]}: {found['episodes']} episodes that both reviewed whole, {found['unfinished']} more "
        "not yet",
        f"segments      {found['segments'][0]} and {found['segments'][1]}, {both} in both (IoU above one half), mean "
        f"IoU {found['iou']:.2f}",
        f"boundaries    F1 {found['boundaries']['f1']:.2f} within {cuts['tolerance']:g} s; to the nearest one "
        f"{cuts['mean']:.2f} s on average, median {cuts['median']:.2f} s, 95% within {cuts['p95']:.2f} s",
    ]
    for label, units in found["kappa"].items():
        for unit, kappa in units.items():
            if kappa is not None:
                lines.append(f"kappa         {label} by {unit}: {_kappa(kappa)}")
    if both:
        shares = (f"{text} {share:.0%}" for text, share in found["texts"].items())
        lines.append(f"same words    in segments that both have: {', '.join(shares)}")
    if "consensus" in found:
        made = found["consensus"]
        lines.append(
            f"consensus     {made['file']}: {made['disputed']} disputed segments in {len(made['disputed_episodes'])} "
            "episodes wait for a third look"
        )
    return "\n".join(lines)


def _kappa(kappa: dict[str, Any]) -> str:
    equal = f"{kappa['observed']:.0%} of {kappa['items']} equal, {kappa['expected']:.0%} by chance"
    if kappa["value"] is None:
        return f"undefined ({equal}: one label throughout)"
    interval = f" ({kappa['low']:.2f} to {kappa['high']:.2f})" if kappa["low"] is not None else ""
    return f"{kappa['value']:.2f}{interval}, {equal}"
