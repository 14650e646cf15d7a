"""What a dataset declares about its content (codecs, splits, statistics), and the datasets that it is held against."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.validate.findings import Finding
from components.validate.rules import WARNING
from components.validate.summary import EpisodeSummary
from components.validate.thresholds import Thresholds
from model.data.lerobot import ACTION, STATE, LeRobotDataset
from model.data.lerobot_layout import INFO
from model.errors import UserError

STATS = "meta/stats.json"
LEAST_STD = 1e-3


def declared_codecs(root: Path) -> dict[str, str]:
    """Camera -> codec, from the feature's `info` (v2.1, v3.0) or `video_info` (v2.0)."""
    codecs = {}
    for key, feature in _json(root / INFO)["features"].items():
        facts = feature.get("info") or feature.get("video_info") or {}
        if isinstance(facts, dict) and isinstance(facts.get("video.codec"), str):
            codecs[key] = facts["video.codec"]
    return codecs


def declared_splits(root: Path) -> dict[str, range]:
    """Split -> its episodes, of `splits` in meta/info.json: {"train": "0:80"}.

    Raises:
        UserError: a split is not written as first:end.
    """
    splits = {}
    for name, text in (_json(root / INFO).get("splits") or {}).items():
        first, colon, end = str(text).partition(":")
        if not (colon and first.isdigit() and end.isdigit()):
            raise UserError(f"{INFO}: split '{name}' is '{text}'. Write first:end, for example 0:80.")
        splits[str(name)] = range(int(first), int(end))
    return splits


def split_findings(splits: dict[str, range]) -> list[Finding]:
    """Splits that share episodes: what is tested on was trained on."""
    findings = []
    names = list(splits)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            shared = sorted(set(splits[name]) & set(splits[other]))
            if shared:
                findings.append(
                    Finding(
                        rule="split_overlap",
                        severity=WARNING,
                        episode=None,
                        message=f"{INFO}: the splits '{name}' and '{other}' share {len(shared)} episodes, the first is "
                        f"{shared[0]}. Correct the splits.",
                        evidence={"splits": [name, other], "episodes": len(shared), "first": shared[0]},
                    )
                )
    return findings


def statistics_findings(
    root: Path, rows: Sequence[EpisodeSummary], thresholds: Thresholds, reference: Path | None, whole: bool
) -> list[Finding]:
    """The dataset's own statistics against those it declares, and against those of a reference.

    Args:
        whole: every declared episode was measured; otherwise the declared statistics are of other frames.
    """
    found = _found(rows)
    findings = []
    if whole and (root / STATS).is_file():
        declared = _statistics(root / STATS)
        limit = thresholds["declared_shift"]
        findings += _differences(
            "statistics_declared",
            found,
            declared,
            limit,
            1 + limit,
            f"{STATS} declares another {{what}} of '{{key}}' than its frames have (dimension {{dim}}: {{declared:.4g}}"
            ", found {found:.4g}). Compute the statistics again: a policy would be normalised wrongly.",
        )
    if reference is not None:
        findings += _differences(
            "statistics_drift",
            found,
            _statistics(reference),
            thresholds["statistics_shift"],
            thresholds["statistics_ratio"],
            "'{key}' has another {what} than the reference (dimension {dim}: {found:.4g}, there {declared:.4g}). "
            "Compare robot, units and tasks with the reference.",
        )
    return findings


def measure_against_reference(rows: Sequence[EpisodeSummary], reference: Path) -> None:
    """How far the mean of each episode is from the reference's, in its standard deviations."""
    statistics = _statistics(reference)
    for row in rows:
        worst: tuple[float, str, int] | None = None
        for key, (mean, std) in statistics.items():
            own = row.traits.get(f"mean {key}")
            if own is None or own.shape != mean.shape:
                continue
            shift = np.abs(own - mean) / np.maximum(std, LEAST_STD)
            dim = int(np.argmax(shift))
            if worst is None or shift[dim] > worst[0]:
                worst = (float(shift[dim]), key, dim)
        if worst is not None:
            shift_by, key, dim = worst
            row.measure(
                "reference_shift",
                shift_by,
                f"the mean of '{key}' in dimension {dim} is {shift_by:.3g} standard deviations off the reference's",
                column=key,
                dimension=dim,
            )


def reference_file(name: str) -> Path:
    """The statistics that `validate.reference` names: a dataset's folder, or a file like meta/stats.json.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    path = path / STATS if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"validate.reference is '{name}': no {STATS} is there. Give a LeRobot dataset, or the file.")
    return path


def held_out_digests(name: str) -> dict[str, int]:
    """Digest of states and actions -> episode, of the dataset that `validate.holdout` names."""
    dataset = LeRobotDataset.open(name)
    digests = {}
    for episode in dataset.episodes:
        if episode.table is None:
            continue
        table = dataset.table(episode.index)
        columns = [dataset.column(episode.index, table, key) for key in (STATE, ACTION)]
        together = np.ascontiguousarray(np.concatenate(columns, axis=1).astype(np.float32))
        digests[hashlib.sha256(together.tobytes()).hexdigest()] = episode.index
    return digests


def _found(rows: Sequence[EpisodeSummary]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Column -> mean and standard deviation over all frames."""
    found = {}
    for key in (STATE, ACTION):
        chosen = [row for row in rows if f"mean {key}" in row.traits]
        if not chosen:
            continue
        weights = np.array([row.frames for row in chosen], dtype=float)
        weights /= weights.sum()
        mean = weights @ np.stack([row.traits[f"mean {key}"] for row in chosen])
        second = weights @ np.stack([row.traits[f"second {key}"] for row in chosen])
        found[key] = (mean, np.sqrt(np.maximum(second - mean**2, 0)))
    return found


def _differences(
    rule: str,
    found: dict[str, tuple[np.ndarray, np.ndarray]],
    declared: dict[str, tuple[np.ndarray, np.ndarray]],
    shift_limit: float,
    ratio_limit: float,
    message: str,
) -> list[Finding]:
    findings = []
    for key, (mean, std) in found.items():
        if key not in declared or declared[key][0].shape != mean.shape:
            continue
        other_mean, other_std = declared[key]
        scale = np.maximum(other_std, LEAST_STD)
        shift = np.abs(mean - other_mean) / scale
        ratio = np.maximum(std, LEAST_STD) / scale
        ratio = np.maximum(ratio, 1 / ratio)
        for what, amount, limit, here, there in (
            ("mean", shift, shift_limit, mean, other_mean),
            ("spread", ratio, ratio_limit, std, other_std),
        ):
            dim = int(np.argmax(amount))
            if not amount[dim] <= limit:
                findings.append(
                    Finding(
                        rule=rule,
                        severity=WARNING,
                        episode=None,
                        message=message.format(key=key, what=what, dim=dim, declared=there[dim], found=here[dim]),
                        evidence={"column": key, "dimension": dim, "found": float(f"{here[dim]:.6g}"),
                                  "declared": float(f"{there[dim]:.6g}")},
                    )
                )  # fmt: skip
    return findings


def _statistics(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    raw = _json(path)
    found = {}
    for key in (STATE, ACTION):
        entry = raw.get(key)
        if entry is None:
            continue
        if not isinstance(entry, dict) or not {"mean", "std"} <= set(entry):
            raise UserError(f"{path.name}: '{key}' must hold 'mean' and 'std'. Compute the statistics again.")
        found[key] = (np.array(entry["mean"], dtype=float).ravel(), np.array(entry["std"], dtype=float).ravel())
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}: {error.msg}). Restore the file.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, it holds a {type(value).__name__}.")
    return value
