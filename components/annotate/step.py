"""Cuts the usable episodes into atomic actions and writes their sentences (README.md says how)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.segmentation import SegmentationSettings, segment_episode
from model.progress import Progress

NAME = "annotate"
INPUTS = ("dataset", "verdict")
Parameters = SegmentationSettings
SOURCE = "template"
UNREVIEWED = "unreviewed"


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Write annotations.parquet into `output`: one row a segment, static heads and tails left out.

    Returns:
        episodes, segments, how often each atomic action occurs, and the mean confidence.

    Raises:
        UserError: the dataset or the quarantine list cannot be read; the episode and column are named.
    """
    from components.annotate.sentences import arm_name, sub_task
    from model.data.annotations import write_annotations
    from model.data.lerobot import LeRobotDataset
    from model.data.quarantine import read_quarantine
    from model.robots import find_robot

    dataset = LeRobotDataset.open(inputs["dataset"])
    robot = find_robot(dataset.info)
    quarantined = read_quarantine(inputs["verdict"])
    episodes = [episode.index for episode in dataset.episodes if episode.index not in quarantined]
    progress.message(f"cutting {len(episodes)} episodes into atomic actions")
    rows: list[dict[str, Any]] = []
    for done, episode in enumerate(episodes, 1):
        arrays = dataset.arrays(episode)
        segments = segment_episode(
            arrays.state, arrays.action, dataset.info.fps, robot, arrays.eef_pose, settings=parameters
        )
        rows += [
            {
                "episode": episode,
                "start": segment.start,
                "end": segment.end,
                "atomic_action": segment.action,
                "arm": arm_name(segment),
                "task": arrays.task,
                "sub_task": sub_task(segment, arrays.task),
                "source": SOURCE,
                "confidence": segment.confidence,
                "review_state": UNREVIEWED,
            }
            for segment in segments
        ]
        progress.update(done, len(episodes), segments=len(rows))
    write_annotations(output, rows)
    return {
        "episodes": len(episodes),
        "segments": len(rows),
        "episodes_without_segments": len(episodes) - len({row["episode"] for row in rows}),
        "atomic_actions": dict(sorted(Counter(row["atomic_action"] for row in rows).items())),
        "mean_confidence": round(sum(row["confidence"] for row in rows) / max(1, len(rows)), 3),
    }
