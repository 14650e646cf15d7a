"""Finds what is wrong with a dataset, and quarantines the episodes that cannot be used."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.validate.findings import Finding, count_findings, dataset_findings, episode_findings
from components.validate.rules import ERROR, episode_rules
from components.validate.summary import EpisodeSummary, summarize
from model.data.lerobot import LeRobotDataset
from model.data.lerobot_layout import IMAGE_PREFIX
from model.errors import UserError
from model.progress import Progress
from model.robots import Robot, find_robot

if TYPE_CHECKING:
    from components.validate.suites import Judgement

NAME = "validate"
INPUTS = ("dataset",)
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Tolerances and thoroughness.

    Attributes:
        spacing_tolerance: how far one step between timestamps may be from 1/fps, as a fraction of 1/fps.
        drift_tolerance: how far an episode's span may be from its frames / fps, as a fraction of it.
        depth_stride: of depth videos every so many frames are decoded, and all are counted. 1 decodes each, which takes
            as long again as the videos do.
    """

    spacing_tolerance: float = 0.1
    drift_tolerance: float = 0.01
    depth_stride: int = 10

    def __post_init__(self) -> None:
        for name in ("spacing_tolerance", "drift_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"validate.{name} is {getattr(self, name)}. It is a fraction: between 0 and 1.")
        if self.depth_stride < 1:
            raise UserError(f"validate.depth_stride is {self.depth_stride}. It must be 1 or more.")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Writes `verdict.json`, `quarantine.yaml` and `data_docs/` into `output`; returns the counts.

    Raises:
        UserError: not a LeRobot dataset, or nothing of it is usable; the files are written in the latter case.
    """
    verdict = validate(inputs["dataset"], output, parameters, progress)
    if not verdict["usable"]:
        raise UserError(unusable_sentence(verdict))
    counts = Counter(finding["severity"] for finding in verdict["findings"])
    return {
        "episodes": verdict["episodes_total"],
        "usable": verdict["episodes_usable"],
        "quarantined": verdict["episodes_total"] - verdict["episodes_usable"],
        "hours": verdict["dataset"]["hours_usable"],
        "errors": counts["error"],
        "warnings": counts["warning"],
    }


def validate(root: Path, output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Validates the dataset at `root`, writes the three results into `output`, and returns the verdict."""
    from components.validate.docs import write_docs
    from components.validate.suites import judge

    dataset = LeRobotDataset.open(root)
    robot = find_robot(dataset.info)
    rules = episode_rules(parameters.spacing_tolerance, parameters.drift_tolerance)
    findings = dataset_findings(dataset, robot)
    rows: list[EpisodeSummary] = []
    judgement: Judgement | None = None
    if not any(finding.severity == ERROR for finding in findings):
        rows = _measure(dataset, robot, parameters.depth_stride, progress)
        judgement = judge(rows, rules)
        findings += count_findings(dataset, rows)
        findings += episode_findings(rows, rules, judgement.failed)
    verdict = _verdict(dataset, robot, rows, findings)
    for name in ("verdict.json", "quarantine.yaml"):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / "data_docs", ignore_errors=True)
    (output / "verdict.json").write_text(json.dumps(verdict, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_quarantine(output / "quarantine.yaml", findings)
    write_docs(output / "data_docs", verdict, judgement)
    return verdict


def unusable_sentence(verdict: Mapping[str, Any]) -> str:
    """Why nothing of a dataset can be used: the dataset's own fault, else the commonest faults of its episodes."""
    errors = [finding for finding in verdict["findings"] if finding["severity"] == ERROR]
    whole = [finding for finding in errors if finding["episode"] is None]
    if whole:
        return str(whole[0]["message"])
    counts = Counter(finding["rule"] for finding in errors)
    reasons = ", ".join(f"{rule} ({count})" for rule, count in counts.most_common(3))
    first = f" For example, {errors[0]['message']}" if errors else " It declares none."
    return f"none of the {verdict['episodes_total']} episodes is usable: {reasons or 'no episode'}.{first}"


def _measure(dataset: LeRobotDataset, robot: Robot, depth_stride: int, progress: Progress) -> list[EpisodeSummary]:
    cameras = _used_cameras(dataset, robot)
    progress.message(f"checking {len(dataset.episodes)} episodes, views {', '.join(cameras)}")
    rows = []
    for done, episode in enumerate(dataset.episodes, start=1):
        rows.append(summarize(dataset, episode, cameras, depth_stride))
        progress.update(done, len(dataset.episodes), frames=float(sum(row.frames for row in rows)))
    return rows


def _used_cameras(dataset: LeRobotDataset, robot: Robot) -> list[str]:
    """The robot's views that the dataset has: what is not used is not checked."""
    keys = [IMAGE_PREFIX + name for name in robot.cameras.values()]
    return [camera for camera in keys if camera in dataset.cameras]


def _verdict(
    dataset: LeRobotDataset, robot: Robot, rows: list[EpisodeSummary], findings: list[Finding]
) -> dict[str, Any]:
    out = {finding.episode for finding in findings if finding.severity == ERROR}
    usable = [] if None in out else [row for row in rows if row.episode not in out]
    hours = 1 / (3600 * dataset.info.fps)
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": {
            "version": dataset.info.version,
            "robot_type": dataset.info.robot_type,
            "robot": robot.id,
            "layout": robot.layout,
            "fps": dataset.info.fps,
            "frames": sum(row.frames for row in rows),
            "hours": round(sum(row.frames for row in rows) * hours, 6),
            "hours_usable": round(sum(row.frames for row in usable) * hours, 6),
            "cameras": _used_cameras(dataset, robot),
            "cameras_declared": list(dataset.info.cameras),
            "depth": dataset.has_depth,
            "tasks": sorted({row.task for row in usable}),
        },
        "episodes_total": len(dataset.episodes),
        "episodes_usable": len(usable),
        "usable_episodes": [row.episode for row in usable],
        "findings": [finding.to_json() for finding in findings],
        "usable": bool(usable),
    }


def _write_quarantine(path: Path, findings: list[Finding]) -> None:
    """A list that a person can read and a later run will respect: one entry for each episode and rule."""
    import yaml

    entries = [
        {"episode": finding.episode, "rule": finding.rule, "evidence": finding.message}
        for finding in findings
        if finding.severity == ERROR and finding.episode is not None
    ]
    path.write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
