"""What is wrong with a dataset, as findings: of the dataset as a whole, and of its episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from components.validate.rules import ERROR, WARNING, Rule
from components.validate.summary import EpisodeSummary
from model.data.lerobot import ACTION, STATE, LeRobotDataset
from model.data.lerobot_layout import IMAGE_PREFIX, INFO, is_instruction
from model.robots import Robot


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        episode: None when it concerns the whole dataset.
        picture: path of a PNG in the verdict's folder, or ''.
        decision: what a reviewer decided about it: decision, reviewer, reason.
    """

    rule: str
    severity: str
    episode: int | None
    message: str
    evidence: Mapping[str, Any]
    picture: str = ""
    decision: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Without what it does not have."""
        said = asdict(self)
        return {key: value for key, value in said.items() if key not in ("picture", "decision") or value}


def dataset_findings(dataset: LeRobotDataset, robot: Robot) -> list[Finding]:
    """Findings that need no frame read. An error among them makes the whole dataset unusable."""
    findings = [_finding(remark.rule, WARNING, remark.message, **remark.evidence) for remark in dataset.remarks]
    findings += _dimensions(dataset, robot)
    for camera in dataset.info.cameras:
        if camera not in dataset.cameras:
            findings.append(
                _finding(
                    "camera_without_files",
                    WARNING,
                    f"camera '{camera}' is declared in {INFO}, and no episode has a file of it. It is left out.",
                    camera=camera,
                )
            )
    findings += _camera_names(dataset, robot)
    if "frame_index" not in dataset.info.features:
        findings.append(
            _finding(
                "frame_index_missing",
                WARNING,
                "column 'frame_index' is not declared. Frames are taken by their position in the table.",
            )
        )
    words = sorted(task for task in dataset.tasks.values() if task.strip() and not is_instruction(task))
    if words:
        findings.append(
            _finding(
                "task_not_instruction",
                WARNING,
                f"meta/tasks holds {_quoted(words)}, which is no instruction. It is never given to the policy.",
                tasks=words,
            )
        )
    return findings


def count_findings(dataset: LeRobotDataset, rows: Sequence[EpisodeSummary]) -> list[Finding]:
    """Declared totals against what was found."""
    tables = sum(row.values["table_missing"] == 0 for row in rows)
    pairs = (
        ("total_episodes", dataset.info.total_episodes, tables, "episodes have a table"),
        ("total_frames", dataset.info.total_frames, sum(row.frames for row in rows), "frames are in the tables"),
        ("total_tasks", dataset.info.total_tasks, len(dataset.tasks), "tasks are in meta/tasks"),
    )
    return [
        _finding(
            "declared_counts",
            WARNING,
            f"{INFO} declares {key} {declared}, {found} {what}. Restore what is missing, or correct the number.",
            key=key,
            declared=declared,
            found=found,
        )
        for key, declared, found, what in pairs
        if declared is not None and declared != found
    ]


def episode_findings(
    rows: Sequence[EpisodeSummary], rules: Sequence[Rule], failed: Mapping[str, Sequence[int]]
) -> list[Finding]:
    """One finding for each rule that an episode breaks, by episode and then in the order of the rules."""
    by_index = {row.episode: row for row in rows}
    findings = []
    for rule in rules:
        broken = [by_index[index] for index in failed.get(rule.name, ())]
        if rule.once and broken:
            sentence, evidence = broken[0].details[rule.column]
            every = "every episode" if len(broken) == len(rows) else f"{len(broken)} episodes"
            findings.append(
                _finding(
                    rule.name,
                    rule.severity,
                    f"{every}: {sentence}. {rule.fix}",
                    **evidence,
                    episodes=[row.episode for row in broken],
                )
            )
            continue
        for row in broken:
            sentence, evidence = row.details[rule.column]
            findings.append(
                Finding(
                    rule=rule.name,
                    severity=rule.severity,
                    episode=row.episode,
                    message=f"episode {row.episode}: {sentence}. {rule.fix}",
                    evidence=evidence,
                )
            )
    return sorted(findings, key=lambda finding: -1 if finding.episode is None else finding.episode)


def _dimensions(dataset: LeRobotDataset, robot: Robot) -> list[Finding]:
    findings = []
    for key, names in ((STATE, robot.state_names), (ACTION, robot.action_names)):
        feature = dataset.info.features.get(key)
        declared = list(feature.shape) if feature is not None else []
        if declared != [len(names)]:
            findings.append(
                _finding(
                    "robot_dimensions",
                    ERROR,
                    f"'{key}' has shape {declared} in {INFO}, robot '{robot.id}' has {len(names)} dimensions. Correct "
                    f"robot_type '{dataset.info.robot_type}' there, or describe this robot in model/robots.",
                    key=key,
                    declared=declared,
                    robot=len(names),
                )
            )
    return findings


def _camera_names(dataset: LeRobotDataset, robot: Robot) -> list[Finding]:
    """A view that is absent is masked; one that is there under another name would be lost in silence: an error."""
    present = [camera.removeprefix(IMAGE_PREFIX) for camera in dataset.cameras]
    missing = [name for name in robot.cameras.values() if name not in present]
    unknown = [name for name in present if name not in robot.cameras.values()]
    if not missing:
        return []
    if not unknown and len(missing) < len(robot.cameras):
        return [
            _finding(
                "view_absent",
                WARNING,
                f"robot '{robot.id}' has the views {_quoted(missing)} too, which this dataset lacks. They are masked.",
                cameras=missing,
            )
        ]
    near = {name: get_close_matches(name, unknown, n=1, cutoff=0.4) for name in missing}
    hints = "".join(f" Did you mean '{match[0]}' as '{name}'?" for name, match in near.items() if match)
    return [
        _finding(
            "camera_names",
            ERROR,
            f"robot '{robot.id}' needs camera {_quoted([IMAGE_PREFIX + name for name in missing])}, the dataset has "
            f"{_quoted(dataset.cameras) or 'none'}.{hints} Rename the feature in {INFO} and the folder of its "
            f"videos, or name the camera in model/robots/{robot.id}.yaml.",
            missing=missing,
            unknown=unknown,
        )
    ]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _finding(rule: str, severity: str, message: str, **evidence: Any) -> Finding:
    return Finding(rule=rule, severity=severity, episode=None, message=message, evidence=evidence)
