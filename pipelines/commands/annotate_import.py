"""`lingbot annotate import`: what people did in Label Studio, into the file of a review."""

import argparse
import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.annotate.review.label_studio_import import Labelled
    from components.annotate.review.store import ReviewFile

HELP = "what people did in Label Studio, into the file of a review"
OUTPUT = Path("reviewed.parquet")


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_dataset

    add_dataset(parser)
    parser.add_argument("tasks", metavar="TASKS", type=Path, help="a JSON export of Label Studio")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FILE", help=f"the review to put it into (default {OUTPUT})"
    )
    parser.add_argument("--annotator", default="", metavar="WHO", help="whose work, where several labelled a task")
    parser.add_argument(
        "--replace", action="store_true", help="also where the review was changed since the tasks were exported"
    )


def run(args: argparse.Namespace) -> int:
    from components.annotate.review.label_studio_import import read_tasks
    from components.annotate.review.store import ReviewFile
    from model.errors import UserError
    from pipelines.annotated import open_named

    if args.output.suffix != ".parquet":
        raise UserError(f"--output is '{args.output}': its name must end with .parquet.")
    try:
        tasks = json.loads(args.tasks.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"TASKS is '{args.tasks}', which cannot be read as JSON: {error}.") from error
    dataset = open_named(args.dataset, args.run)
    try:
        labelled = read_tasks(tasks, annotator=args.annotator)
    except UserError as error:
        raise UserError(f"{args.tasks}: {error}") from error
    lengths = {episode.index: episode.length for episode in dataset.episodes}
    file = ReviewFile(args.output, [row for one in labelled for row in one.rows], lengths)
    saved = _save(file, [one for one in labelled if one.segments is not None], replace=args.replace)
    print(f"{len(labelled)} episodes in {args.tasks}, {saved} changed or accepted in {args.output}")
    if not args.output.exists():
        whose = f" by {args.annotator}" if args.annotator else ""
        print(f"none was submitted{whose} in Label Studio: {args.output} is not written")
    return 0


def _save(file: "ReviewFile", labelled: list["Labelled"], *, replace: bool) -> int:
    """Saves what differs from what was exported; returns of how many episodes."""
    from components.annotate.review.edits import revision, settle
    from components.annotate.review.store import Change
    from model.errors import UserError

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    changes: dict[int, Change] = {}
    overtaken = []
    for one in labelled:
        assert one.segments is not None
        when: dict[str, Any] = {"reviewer": one.reviewer, "now": one.now or now}
        if settle(one.episode, one.segments, one.rows, length=one.length, **when) == one.rows:
            continue
        base = revision(file.rows(one.episode))
        if base != one.revision and not replace:
            overtaken.append(str(one.episode))
        changes[one.episode] = Change(base=base, segments=one.segments, **when)
    if overtaken:
        raise UserError(
            f"{file.path}: episodes {', '.join(overtaken)} were changed there since they were exported, and nothing "
            "was imported: --replace takes Label Studio's, another --output keeps both."
        )
    file.save(changes)
    return len(changes)
