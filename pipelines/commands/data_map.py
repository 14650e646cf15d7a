"""`lingbot data map`: how a dataset's dimensions and cameras fit a robot, and what could not be placed."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.data.lerobot_layout import DatasetInfo
    from model.robots.mapping import Proposal

HELP = "propose how a dataset's dimensions and cameras fit a robot, and say what could not be placed"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DATASET", help="folder or s3:// address of a LeRobot dataset")
    parser.add_argument("--robot", metavar="NAME", required=True, help="id or alias of a robot of model/robots")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="write the robot's YAML in the dataset's order there"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when everything was placed, else 1."""
    from components.adapters.filesystem import open_dataset
    from model.robots import load_robot
    from model.robots.mapping import propose

    info = open_dataset(args.path).info
    proposal = propose(info, load_robot(args.robot))
    print(describe(info, proposal))
    if args.output is not None:
        write(args.output, info, proposal)
        print(f"wrote {args.output}: check it, and put it in model/robots/")
    return 0 if proposal.complete else 1


def describe(info: "DatasetInfo", proposal: "Proposal") -> str:
    """The text that the command prints: a line a dimension, then what is open."""
    from model.robots import CANONICAL_DIM, UNIFIED_DIM, UNPLACED

    robot = proposal.robot
    unified = robot.unified_action_slots
    lines = [f"{info.robot_type} -> {robot.id}: {len(proposal.places)} of the dataset's dimensions placed"]
    vectors = f"{f'of {CANONICAL_DIM}':>6} {f'of {UNIFIED_DIM}':>6}"
    lines.append(f"{'dim':>4}  {'dataset':<28} {'robot':<24} {vectors}  by")
    for place in proposal.places:
        at = robot.action_names.index(place.joint)
        slot = "-" if unified[at] == UNPLACED else str(unified[at])
        lines.append(
            f"{place.dim:>4}  {place.name:<28} {place.joint:<24} {robot.action_slots[at]:>6} {slot:>6}  {place.how}"
        )
    lines += [f"camera {role}: {key}" for role, key in proposal.cameras.items()] or ["no camera has a role"]
    lines += [f"not placed: dimension {dim} '{name}'" for dim, name in proposal.unplaced]
    lines += [f"not placed: camera '{key}'" for key in proposal.unused_cameras]
    if proposal.missing:
        lines.append(f"not in the dataset: {', '.join(proposal.missing)}")
    if proposal.state_differs:
        lines.append("the state's names are not the action's: a canonical layout needs both in one order")
    if questions := robot.open_questions:
        lines.append(f"unverified in {robot.id}.yaml: {', '.join(questions)}")
    return "\n".join(lines)


def write(path: Path, info: "DatasetInfo", proposal: "Proposal") -> None:
    """The proposed robot as YAML. UserError when something has no place, or the file's name is no robot id."""
    from model.errors import UserError
    from model.robots import dump_robot, parse_robot
    from model.robots.mapping import mapped_robot

    text = dump_robot(mapped_robot(proposal, path.stem, info.robot_type, info.fps))
    parse_robot(text, f"--output {path}")  # what is written can be read, or the fault is named before
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output '{path}' cannot be written: {error.strerror}. Give another.") from error
