"""Packs the usable episodes of a dataset for training (model/data/packing.py has the work; README.md the format)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.packing import pack
from model.data.packing_plan import PackingSettings
from model.data.packing_tables import Segment
from model.progress import Progress

NAME = "pack"
INPUTS = ("dataset", "verdict", "annotations")
Parameters = PackingSettings


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Write the packed folder of `inputs` into `output`.

    Returns:
        counts of the packed folder, `hours` of usable demonstration, tasks, cameras and megabytes of images.

    Raises:
        UserError: no usable episode, wrong cameras or dimensions, an unreadable episode, or a full disk.
    """
    from model.data.annotations import read_annotations
    from model.data.lerobot import LeRobotDataset
    from model.data.quarantine import read_quarantine
    from model.data.scenes import carry_scenes
    from model.robots import find_robot

    dataset = LeRobotDataset.open(inputs["dataset"])
    segments: dict[int, list[Segment]] = {}
    for row in read_annotations(inputs["annotations"]):
        segment = Segment(start=row["start"], end=row["end"], sub_task=row["sub_task"] or "", task=row["task"] or "")
        segments.setdefault(row["episode"], []).append(segment)
    meta = pack(
        dataset,
        find_robot(dataset.info),
        output,
        parameters,
        quarantined=read_quarantine(inputs["verdict"]),
        segments=segments,
        progress=progress,
    )
    carry_scenes(inputs["dataset"], output, len(dataset.episodes))
    return {
        **meta.counts,
        "hours": round(meta.counts["steps"] / meta.fps / 3600, 4),
        "robot": meta.robot,
        "cameras": list(meta.cameras),
        "tasks": list(meta.tasks),
        "has_goal": meta.has_goal,
        "megabytes": round(sum((output / name).stat().st_size for name in meta.files) / 1e6, 1),
    }
