"""`lingbot annotate checkpoints`: checkpoints for evaluation, from annotated demonstrations."""

import argparse
from pathlib import Path

from components.arguments import number

HELP = "draw the checkpoints of each task from its annotated demonstrations, as a protocol for scoring trials"


def configure(parser: argparse.ArgumentParser) -> None:
    from pipelines.annotated import add_annotated

    add_annotated(parser, "its annotations: a folder or a .parquet")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the protocol: a new .yaml")
    parser.add_argument("--benchmark", default="own", metavar="NAME", help="what the protocol calls it (default own)")
    parser.add_argument(
        "--min-share", type=number, default=0.8, metavar="SHARE", help="of the episodes have a checkpoint (default 0.8)"
    )


def run(args: argparse.Namespace) -> int:
    from components.annotate.checkpoints import draw_checkpoints, protocol_text
    from components.annotate.episodes import by_episode
    from components.annotate.new_files import check_new_file
    from model.errors import UserError
    from model.evaluation.protocol import read_protocol
    from model.robots import find_robot
    from pipelines.annotated import open_annotated

    check_new_file(args.output, "--output", ".yaml")
    if not 0 < args.min_share <= 1:
        raise UserError(f"--min-share is {args.min_share:g}: it is a share, choose above 0 to 1.")
    source = open_annotated(args)
    dataset, annotated = source.dataset, by_episode(source.rows())
    tasks: dict[str, dict[int, list]] = {}
    for episode in dataset.episodes:
        if episode.index in annotated:
            tasks.setdefault(episode.instruction, {})[episode.index] = annotated[episode.index]
    if not tasks:
        raise UserError(f"{source.annotations} has no segment of any episode: there is nothing to draw from.")
    found = {}
    for instruction, episodes in sorted(tasks.items()):
        try:
            found[instruction] = draw_checkpoints(episodes, dataset.info.fps, min_share=args.min_share)
        except UserError as error:
            raise UserError(f"task '{instruction}': {error}") from error
    counts = {instruction: len(episodes) for instruction, episodes in tasks.items()}
    robot = find_robot(dataset.info).id
    args.output.write_text(protocol_text(args.benchmark, robot, found, counts), encoding="utf-8")
    read_protocol(args.output)
    for instruction, checkpoints in found.items():
        print(f"{instruction} ({counts[instruction]} episodes): {', '.join(one.name for one in checkpoints)}")
    print(f"{args.output}: read it over, then `lingbot evaluate score TRIALS --protocol {args.output}`")
    return 0
