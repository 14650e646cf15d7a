"""`lingbot annotate diversity`: how diverse the atomic actions of training and test sets are."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.arguments import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from components.annotate.diversity import Action, Coverage
    from pipelines.annotated import Annotated

HELP = "word clouds and frequencies of atomic actions, and how much of the test set training does not show"
SHOWN = 25  # lines of the table, the rest is in coverage.csv


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_annotated

    pair: dict[str, Any] = {"nargs": 2, "action": "append", "default": [], "metavar": ("DATASET", "ANNOTATIONS")}
    add_annotated(parser, "of the training set: a folder or a .parquet")
    parser.add_argument("--train", help="a further dataset of the training set; may be repeated", **pair)
    parser.add_argument("--test", help="a dataset of the test set, instead of the holdout; may be repeated", **pair)
    parser.add_argument(
        "--holdout-fraction", type=number, default=0.05, metavar="SHARE",
        help="without --test: the episodes that pack holds out by this share are the test set (default 0.05)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of that split, as pack.seed (default 0)")
    parser.add_argument(
        "--top", type=int, default=100, metavar="N", help="what counts as most frequent in training (default 100)"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="diversity.png, frequencies.csv and coverage.csv")


def run(args: argparse.Namespace) -> int:
    from components.annotate.diversity import TEST, TRAIN, measure, ranked, write_tables
    from model.errors import UserError
    from pipelines.annotated import open_annotated
    from pipelines.tables import print_table

    if args.top < 1:
        raise UserError(f"--top is {args.top}: it must be at least 1.")
    if not 0 <= args.holdout_fraction < 1:
        raise UserError(f"--holdout-fraction is {args.holdout_fraction:g}: it is a share, choose 0 to below 1.")
    if args.output is not None and not args.output.parent.is_dir():
        raise UserError(f"--output is '{args.output}', but there is no folder {args.output.parent}: make it first.")
    if args.output is not None and args.output.is_file():
        raise UserError(f"--output is '{args.output}', which is a file: give a folder.")
    holdout = 0.0 if args.test else args.holdout_fraction
    actions: list[Action] = []
    for source in [open_annotated(args), *map(_opened, args.train)]:
        actions += _actions(source, TRAIN, holdout, args.seed)
    for source in map(_opened, args.test):
        actions += _actions(source, TEST, 0.0, args.seed)
    found = measure(actions, most_frequent=args.top)
    lines = [
        ["robot", "task", "train", "different", "test", "different", f"outside top {args.top}", "of segments", "unseen"]
    ]
    lines += [_line(one) for one in found.coverage[:SHOWN]]
    print_table(lines)
    if len(found.coverage) > SHOWN:
        print(f"... and {len(found.coverage) - SHOWN} more")
    total = found.train.total()
    frequent = (f"{action} {found.train[action] / total:.0%}" for action in ranked(found.train)[:5])
    print(f"most frequent in training: {', '.join(frequent)}")
    if args.output is not None:
        from components.annotate.diversity_picture import save_picture

        args.output.mkdir(exist_ok=True)
        picture = args.output / "diversity.png"
        save_picture(picture, found)
        for path in (picture, *write_tables(found, args.output)):
            print(path)
    return 0


def _opened(pair: "Sequence[str]") -> "Annotated":
    """A DATASET and its ANNOTATIONS."""
    from components.adapters.filesystem import open_dataset
    from pipelines.annotated import Annotated

    dataset, annotations = pair
    return Annotated(name=dataset, dataset=open_dataset(dataset), annotations=Path(annotations))


def _actions(source: "Annotated", split: str, holdout: float, seed: int) -> "Iterator[Action]":
    """The annotated segments of a dataset; those of held-out episodes are of the test set."""
    from components.annotate.diversity import TEST, Action, phrase
    from model.data.packed_format import HOLDOUT
    from model.data.packing_plan import split_episodes
    from model.robots import find_robot

    rows = source.rows()
    tasks = {episode.index: episode.instruction for episode in source.dataset.episodes}
    robot = find_robot(source.dataset.info).id
    sides = split_episodes(sorted({row["episode"] for row in rows}), holdout, seed)
    for row in rows:
        side = TEST if sides[row["episode"]] == HOLDOUT else split
        yield Action(phrase=phrase(row), robot=robot, task=tasks[row["episode"]], split=side)


def _line(one: "Coverage") -> list[str]:
    shares = ["" if share is None else f"{share:.0%}" for share in (one.outside_share, one.outside_segment_share)]
    counts = (one.train_segments, one.train_actions, one.test_segments, one.test_actions)
    names = [one.robot or "all", one.task or "all"]
    return [*names, *map(str, counts), *shares, str(one.unseen) if one.test_actions else ""]
