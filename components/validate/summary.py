"""One row of measurements an episode: what the rules look at, and the words that go with each fault.

Measuring and judging are apart: a row holds counts, seconds and radians, `rulebook/` says which of them are faults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.validate.measure.scan import Scan
from model.data.lerobot import LeRobotDataset


@dataclass(kw_only=True)
class EpisodeSummary:
    """Measurements of one episode by column name; absent or None where there was nothing to measure.

    Attributes:
        details: column -> the sentence and the evidence that a finding about it gives.
        frames: rows of its table.
        task: its instruction.
        vectors: column -> float64 [L, D] of this episode; dropped once the row is measured.
        scans: camera -> what was read from its frames.
        traits: what comparisons across episodes need (`across.py`).
    """

    episode: int
    values: dict[str, float | None] = field(default_factory=dict)
    details: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    frames: int = 0
    task: str = ""
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    scans: dict[str, Scan] = field(default_factory=dict)
    traits: dict[str, Any] = field(default_factory=dict)

    def measure(self, column: str, value: float | None, sentence: str = "", /, **evidence: Any) -> None:
        self.values[column] = None if value is None else float(value)
        if sentence:
            self.details[column] = (sentence, evidence)

    def faulty(self, *columns: str) -> bool:
        """Whether one of these counts of faults is above zero."""
        return any((self.values.get(column) or 0) > 0 for column in columns)


def without_root(message: str, dataset: LeRobotDataset) -> str:
    """A reader's sentence without the place of the dataset: a verdict must not depend on where the bytes lay."""
    return message.replace(f"{dataset.root}: ", "").replace(f"{dataset.root}/", "").rstrip(".")


def listed(words: str, names: Sequence[str]) -> str:
    return f"{words} {', '.join(repr(name) for name in names)}"


def longest_run(flags: np.ndarray) -> tuple[int, int]:
    """First place and length of the longest run of true values; (0, 0) when there is none."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest] - starts[longest])


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence with its floats at 6 digits: enough to read, and equal wherever it was computed."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in values.items()}
