"""`lingbot data inspect`: what a dataset holds and what is wrong with it at a glance, without decoding a frame."""

import argparse
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.data.lerobot import LeRobotDataset

HELP = "robot, episodes, hours, cameras, depth, tasks and problems of a dataset, without decoding its videos"
SHOWN = 8  # tasks and problems listed before the rest is counted


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder of a LeRobot dataset (v2.0, v2.1 or v3.0)")


def run(args: argparse.Namespace) -> int:
    from model.data.lerobot import LeRobotDataset

    print(describe(LeRobotDataset.open(args.path)))
    return 0


def describe(dataset: "LeRobotDataset") -> str:
    """The text that the command prints."""
    info = dataset.info
    held = [episode for episode in dataset.episodes if episode.table is not None]
    seconds = sum(episode.length for episode in held) / info.fps
    rows = [
        ("dataset", dataset.root),
        ("version", info.version),
        ("robot", _robot(dataset)),
        ("episodes", f"{len(held)} of {len(dataset.episodes)} declared have a table"),
        ("length", f"{seconds / 3600:.3f} h, {sum(episode.length for episode in held)} frames at {info.fps:g} fps"),
        ("state", _vector(dataset, "observation.state")),
        ("action", _vector(dataset, "action")),
    ]
    rows += [("camera", _camera(dataset, camera)) for camera in info.cameras] or [("camera", "none")]
    rows.append(("depth", _depth(dataset)))
    tasks = Counter(episode.instruction or "(no task text)" for episode in held)
    rows += [("task", f"{number:>5} x {task}") for task, number in tasks.most_common(SHOWN)]
    if len(tasks) > SHOWN:
        rows.append(("task", f"... and {len(tasks) - SHOWN} more"))
    problems = _problems(dataset)
    rows += [("problem", problem) for problem in problems[:SHOWN]] or [("problem", "none at a glance")]
    if len(problems) > SHOWN:
        rows.append(("problem", f"... and {len(problems) - SHOWN} more"))
    lines = []
    before = ""
    for label, text in rows:
        lines.append(f"{'' if label == before else label:<10}{text}")
        before = label
    lines.append("`lingbot data validate` reads every frame and says which episodes to leave out.")
    return "\n".join(lines)


def _robot(dataset: "LeRobotDataset") -> str:
    from model.errors import UserError
    from model.robots import find_robot

    try:
        robot = find_robot(dataset.info)
    except UserError:  # told among the problems
        return f"unknown (robot_type '{dataset.info.robot_type}')"
    simulator = f"simulator {robot.simulator}" if robot.simulator else "no simulator"
    return f"{robot.id} (robot_type '{dataset.info.robot_type}', layout {robot.layout}, {simulator})"


def _vector(dataset: "LeRobotDataset", key: str) -> str:
    feature = dataset.info.features.get(key)
    if feature is None:
        return "not declared"
    names = feature.names
    if not names:
        return f"{list(feature.shape)}, unnamed"
    return f"{len(names)} dimensions, {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"


def _camera(dataset: "LeRobotDataset", camera: str) -> str:
    feature = dataset.info.features[camera]
    size = "x".join(str(number) for number in feature.shape)
    if feature.dtype == "image":
        return f"{camera}  {size}, stored in the tables"
    found = sum(episode.videos.get(camera) is not None for episode in dataset.episodes)
    return f"{camera}  {size}, video of {found} episodes"


def _depth(dataset: "LeRobotDataset") -> str:
    if not dataset.depth_cameras:
        return "none"
    whole = sum(all(clip is not None for clip in episode.depth.values()) for episode in dataset.episodes)
    return f"of {len(dataset.depth_cameras)} cameras, complete in {whole} episodes"


def _problems(dataset: "LeRobotDataset") -> list[str]:
    from components.validate.findings import dataset_findings
    from model.errors import UserError
    from model.robots import find_robot

    try:
        problems = [finding.message for finding in dataset_findings(dataset, find_robot(dataset.info))]
    except UserError as error:
        problems = [str(error)]
    without_table = [episode.index for episode in dataset.episodes if episode.table is None]
    if without_table:
        problems.append(f"{len(without_table)} episodes have no table: {ranges(without_table)}")
    for camera in dataset.cameras:
        if dataset.info.features[camera].dtype == "image":
            continue
        lacking = [
            episode.index for episode in dataset.episodes if episode.table and episode.videos.get(camera) is None
        ]
        if lacking:
            problems.append(f"{len(lacking)} episodes have a table but no video of '{camera}': {ranges(lacking)}")
    return problems


def ranges(numbers: list[int]) -> str:
    """Ascending numbers, runs shortened: '0-3, 7'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
