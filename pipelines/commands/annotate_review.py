"""`lingbot annotate review`: the page where a person moves, renames and accepts segments."""

import argparse
import getpass
from pathlib import Path

HELP = "a page in the browser to move, split, merge, rename and accept segments"
PORT = 8300
OUTPUT = Path("reviewed.parquet")


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_annotated

    add_annotated(parser, "what to review: a folder or a .parquet")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FILE",
        help=f"where the review is kept; a file that exists is gone on with (default {OUTPUT})",
    )  # fmt: skip
    parser.add_argument("--reviewer", metavar="NAME", help="recorded with every change (default: your login name)")
    parser.add_argument("--sample", type=Path, metavar="FILE", help="only its episodes, in its order")
    parser.add_argument("--port", type=int, default=PORT, help=f"of 127.0.0.1 (default {PORT}; 0: any that is free)")


def run(args: argparse.Namespace) -> int:
    from components.annotate.episodes import is_finished
    from components.annotate.review.app import create_app
    from components.annotate.review.server import listen, serve
    from components.annotate.review.store import ReviewFile
    from model.errors import UserError
    from model.robots import find_robot
    from pipelines.annotated import open_annotated

    reviewer = (_login() if args.reviewer is None else args.reviewer).strip()
    if not reviewer:
        raise UserError("--reviewer is empty: give the name that is recorded with what you change.")
    if args.output.suffix != ".parquet":
        raise UserError(f"--output is '{args.output}': its name must end with .parquet.")
    source = open_annotated(args)
    file = ReviewFile(args.output, source.rows(), source.lengths)
    episodes = file.episodes()
    if not episodes:
        raise UserError(f"{source.annotations} has no segment of any episode: there is nothing to review.")
    sample = None if args.sample is None else _sample(args.sample, set(episodes))
    robot = find_robot(source.dataset.info)
    app = create_app(source.dataset, robot, file, reviewer=reviewer, name=source.name, sample=sample)
    listener = listen(args.port)

    def announce(address: str) -> None:
        listed = list(episodes) if sample is None else sample
        done = sum(is_finished(episodes[episode]) for episode in listed)
        print(f"review of {source.name} by {reviewer}: {done} of {len(listed)} episodes accepted", flush=True)
        print(f"saved in {args.output} with every change; Ctrl-C ends", flush=True)
        print(f"open {address}", flush=True)

    serve(app, listener, announce)
    done = sum(is_finished(rows) for rows in file.episodes().values())
    if args.output.exists():
        print(f"{done} episodes accepted; they are used with --set annotate.reviewed={args.output.absolute()}")
    return 0


def _login() -> str:
    """The name of this user; "" where the system has none, as for a user of a container that is a number alone."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _sample(path: Path, known: set[int]) -> list[int]:
    """The episodes of a file of `lingbot annotate sample`, in order."""
    import json

    from model.errors import UserError

    try:
        episodes = json.loads(path.read_text())["episodes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--sample '{path}' cannot be read: give a file of `lingbot annotate sample`.") from error
    if not isinstance(episodes, list) or not episodes or not all(type(episode) is int for episode in episodes):
        raise UserError(f"--sample '{path}' has episodes {episodes!r}: give a list of episode numbers.")
    unknown = [episode for episode in episodes if episode not in known]
    if unknown:
        raise UserError(
            f"--sample '{path}' has episode {unknown[0]}, which has no segments here: it is of other annotations."
        )
    return list(dict.fromkeys(episodes))
