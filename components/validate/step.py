"""Finds what is wrong with a dataset, and quarantines the episodes that cannot be used."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.validate.decisions import apply_decisions, read_decisions
from components.validate.declared import declared_splits, split_findings, statistics_findings
from components.validate.evidence import FOLDER as PICTURES
from components.validate.evidence import add_pictures
from components.validate.findings import Finding, count_findings, dataset_findings, episode_findings
from components.validate.measuring import Measuring
from components.validate.rulebook import episode_rules
from components.validate.rules import ERROR
from components.validate.summary import EpisodeSummary
from components.validate.thresholds import Thresholds, load_thresholds
from model.data.lerobot import LeRobotDataset
from model.data.quarantine import QUARANTINE
from model.errors import UserError
from model.progress import Progress
from model.robots import Robot, find_robot

if TYPE_CHECKING:
    from components.validate.suites import Judgement

NAME = "validate"
INPUTS = ("dataset",)
SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Tolerances, thoroughness, and what the dataset is held against.

    Attributes:
        spacing_tolerance: how far one step between timestamps may be from 1/fps, as a fraction of 1/fps.
        drift_tolerance: how far an episode's span may be from its frames / fps, as a fraction of it.
        depth_stride: of depth videos every so many frames are decoded, and all are counted. 1 decodes each, which takes
            as long again as the videos do.
        thresholds: a YAML file whose thresholds replace those of the robot; empty: none.
        decisions: a YAML file of a reviewer's decisions (decisions.py); empty: none.
        reference: a LeRobot dataset, or its meta/stats.json, that the statistics are compared with; empty: none.
        holdout: a LeRobot dataset whose episodes must not be among these; empty: none.
    """

    spacing_tolerance: float = 0.1
    drift_tolerance: float = 0.01
    depth_stride: int = 10
    thresholds: str = ""
    decisions: str = ""
    reference: str = ""
    holdout: str = ""

    def __post_init__(self) -> None:
        for name in ("spacing_tolerance", "drift_tolerance"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"validate.{name} is {getattr(self, name)}. It is a fraction: between 0 and 1.")
        if self.depth_stride < 1:
            raise UserError(f"validate.depth_stride is {self.depth_stride}. It must be 1 or more.")


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Writes `verdict.json`, `quarantine.yaml`, `pictures/` and `data_docs/` into `output`; returns the counts.

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
    """Validates the dataset at `root`, writes the results into `output`, and returns the verdict."""
    from components.validate.docs import write_docs
    from components.validate.suites import judge

    root = Path(root)
    dataset = LeRobotDataset.open(root)
    robot = find_robot(dataset.info)
    thresholds = load_thresholds(robot.id, Path(parameters.thresholds) if parameters.thresholds else None)
    measuring = Measuring(
        dataset=dataset,
        root=root,
        robot=robot,
        thresholds=thresholds,
        depth_stride=parameters.depth_stride,
        reference=parameters.reference,
        holdout=parameters.holdout,
    )
    rules = episode_rules(
        thresholds,
        spacing_tolerance=parameters.spacing_tolerance,
        drift_tolerance=parameters.drift_tolerance,
        velocity_verified=measuring.joints.velocity_verified,
    )
    decisions = (
        read_decisions(Path(parameters.decisions), [rule.name for rule in rules]) if parameters.decisions else ()
    )
    splits = declared_splits(root)
    findings = [*dataset_findings(dataset, robot), *split_findings(splits)]
    rows: list[EpisodeSummary] = []
    judgement: Judgement | None = None
    if not any(finding.severity == ERROR for finding in findings):
        rows = measuring.rows(splits, progress)
        judgement = judge(rows, rules)
        findings += count_findings(dataset, rows)
        findings += statistics_findings(
            root, rows, thresholds, measuring.reference, all("digest" in row.traits for row in rows)
        )
        findings += episode_findings(rows, rules, judgement.failed)
    findings, decided = apply_decisions(findings, decisions, [episode.index for episode in dataset.episodes])
    _clear(output)
    findings = add_pictures(dataset, findings, rules, output)
    verdict = _verdict(dataset, robot, thresholds, rows, findings, decided, measuring.cameras)
    (output / "verdict.json").write_text(json.dumps(verdict, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_quarantine(output / QUARANTINE, findings)
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


def _verdict(
    dataset: LeRobotDataset,
    robot: Robot,
    thresholds: Thresholds,
    rows: list[EpisodeSummary],
    findings: list[Finding],
    decided: list[dict[str, Any]],
    cameras: list[str],
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
            "cameras": cameras,
            "cameras_declared": list(dataset.info.cameras),
            "depth": dataset.has_depth,
            "tasks": sorted({row.task for row in usable}),
        },
        "episodes_total": len(dataset.episodes),
        "episodes_usable": len(usable),
        "usable_episodes": [row.episode for row in usable],
        "findings": [finding.to_json() for finding in findings],
        "decisions": decided,
        "thresholds": thresholds.to_json(),
        "usable": bool(usable),
    }


def _clear(output: Path) -> None:
    """Removes what a killed run, or a run on other input, left."""
    for name in ("verdict.json", QUARANTINE):
        (output / name).unlink(missing_ok=True)
    for name in ("data_docs", PICTURES):
        shutil.rmtree(output / name, ignore_errors=True)


def _write_quarantine(path: Path, findings: list[Finding]) -> None:
    """A list that a person can read and a later run will respect: one entry for each episode and rule."""
    import yaml

    entries = []
    for finding in findings:
        if finding.severity == ERROR and finding.episode is not None:
            entry: dict[str, Any] = {"episode": finding.episode, "rule": finding.rule, "evidence": finding.message}
            if finding.picture:
                entry["picture"] = finding.picture
            entries.append(entry)
    path.write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
