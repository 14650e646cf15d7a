"""`lingbot data inspect`: what a dataset holds and what is wrong with it at a glance; decodes sample pictures alone."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from model.data.lerobot import LeRobotDataset

HELP = "robot, episodes, hours, cameras, depth, tasks, sample pictures and problems of a dataset"
SHOWN = 8  # tasks and problems listed before the rest is counted
PICTURED = 3  # episodes in the sample pictures, each at its beginning, middle and end
PICTURE_HEIGHT = 160


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder or s3:// address of a LeRobot dataset (v2.0, v2.1, v3.0)")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="write sample pictures there, a PNG a camera")


def run(args: argparse.Namespace) -> int:
    from components.adapters.filesystem import open_dataset

    dataset = open_dataset(args.path)
    print(describe(dataset))
    if args.pictures is not None:
        for line in write_pictures(dataset, args.pictures):
            print(line)
    return 0


def write_pictures(dataset: "LeRobotDataset", folder: Path) -> list[str]:
    """One PNG a camera: a row an episode (the first, the middle and the last that have it), its frames in columns.

    Returns a line for each file, and for each episode that cannot be pictured, with the reason.
    """
    import numpy as np
    from PIL import Image

    from model.errors import UserError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--pictures '{folder}' cannot be made a folder: {error.strerror}. Give another.") from error
    lines = []
    for camera in dataset.cameras:
        held = [e.index for e in dataset.episodes if e.length and (not e.videos or e.videos.get(camera, 0) is not None)]
        chosen = sorted({held[place * (len(held) - 1) // (PICTURED - 1)] for place in range(PICTURED)}) if held else []
        rows = []
        for episode in chosen:
            last = dataset.episode(episode).length - 1
            try:
                frames = list(dataset.frames(episode, camera, sorted({0, last // 2, last})))
            except UserError as error:
                lines.append(f"no picture: {error}")
                continue
            rows.append(np.concatenate([_shrunk(frame) for frame in frames], axis=1))
        if rows:
            width = max(row.shape[1] for row in rows)
            sheet = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
            path = folder / f"{camera.rpartition('.')[2]}.png"
            Image.fromarray(sheet).save(path)
            lines.append(f"pictures  {path}: episodes {ranges(chosen)}, beginning to end")
    return lines


def _shrunk(image: "np.ndarray") -> "np.ndarray":
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    size = max(1, round(width * PICTURE_HEIGHT / height)), PICTURE_HEIGHT
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


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
