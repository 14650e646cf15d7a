"""How diverse annotated actions are, and how much of a test set is new: the paper's counts of atomic actions.

About half of GM-100's test actions are outside of the 100 most frequent of its training set (SPEC_VLA section 4.2).
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.annotate.episodes import Row
from model.errors import UserError

MOST_FREQUENT = 100
TRAIN, TEST = "train", "test"
TEMPLATE = "template"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One annotated segment: what is done, by which robot, for which task, in which set."""

    phrase: str
    robot: str
    task: str
    split: str


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the training set shows of the test set's actions, of one robot, one task, or all of them.

    Attributes:
        train_segments, test_segments: annotated segments.
        train_actions, test_actions: different actions among them.
        outside: of the different test actions, those outside of the most frequent of the whole training set.
        outside_segments: the same, counted in test segments.
        unseen: of the different test actions, those that no training segment shows.
    """

    robot: str
    task: str
    train_segments: int
    train_actions: int
    test_segments: int
    test_actions: int
    outside: int
    outside_segments: int
    unseen: int

    @property
    def outside_share(self) -> float | None:
        """Of the different test actions, the share outside; None without any."""
        return self.outside / self.test_actions if self.test_actions else None

    @property
    def outside_segment_share(self) -> float | None:
        return self.outside_segments / self.test_segments if self.test_segments else None


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Counts of the training and the test set, and their coverage: of all, then each robot, then each of its tasks."""

    train: Counter[str]
    test: Counter[str]
    coverage: tuple[Coverage, ...]
    most_frequent: int = MOST_FREQUENT

    @property
    def top(self) -> frozenset[str]:
        """The most frequent training actions."""
        return frozenset(ranked(self.train)[: self.most_frequent])


def phrase(row: Row) -> str:
    """An atomic action in words: its verb and the objects it handles, in lower case.

    A template names its object for every segment; it counts where the sentence speaks of it.
    """
    objects = [name.strip().lower() for name in row["objects"].split(",") if name.strip()]
    if row["source"] == TEMPLATE:
        objects = [name for name in objects if name in row["sub_task"].lower()]
    return " ".join(f"{row['verb'] or row['atomic_action']} {', '.join(objects)}".lower().split())


def ranked(counts: Counter[str]) -> list[str]:
    """The most frequent first; equals in order of the alphabet."""
    return sorted(counts, key=lambda action: (-counts[action], action))


def measure(actions: Iterable[Action], *, most_frequent: int = MOST_FREQUENT) -> Diversity:
    """The diversity of annotated segments.

    Raises:
        UserError: no training segment: nothing to compare with.
    """
    everything = list(actions)
    train = Counter(action.phrase for action in everything if action.split == TRAIN)
    test = Counter(action.phrase for action in everything if action.split == TEST)
    if not train:
        raise UserError("no annotated segment is in the training set: give annotations with segments.")
    top = frozenset(ranked(train)[:most_frequent])
    groups: dict[tuple[str, str], list[Action]] = {("", ""): everything}
    for action in everything:
        groups.setdefault((action.robot, ""), []).append(action)
        groups.setdefault((action.robot, action.task), []).append(action)
    coverage = [_coverage(*names, group, train, top) for names, group in sorted(groups.items(), key=lambda one: one[0])]
    return Diversity(train=train, test=test, coverage=tuple(coverage), most_frequent=most_frequent)


def _coverage(
    robot: str, task: str, group: Sequence[Action], whole: Mapping[str, int], top: frozenset[str]
) -> Coverage:
    train = Counter(action.phrase for action in group if action.split == TRAIN)
    test = Counter(action.phrase for action in group if action.split == TEST)
    outside = [action for action in test if action not in top]
    return Coverage(
        robot=robot,
        task=task,
        train_segments=train.total(),
        train_actions=len(train),
        test_segments=test.total(),
        test_actions=len(test),
        outside=len(outside),
        outside_segments=sum(test[action] for action in outside),
        unseen=sum(action not in whole for action in test),
    )


def write_tables(diversity: Diversity, folder: Path) -> tuple[Path, Path]:
    """frequencies.csv, a row an action, and coverage.csv, a row a robot and task; equal counts give equal bytes."""
    rank = {action: place for place, action in enumerate(ranked(diversity.train), 1)}
    frequencies, coverage = folder / "frequencies.csv", folder / "coverage.csv"
    rows: list[list[Any]] = [["action", "train", "train_share", "train_rank", "test", "test_share"]]
    for action in ranked(diversity.train + diversity.test):
        shares = [counts[action] / max(1, counts.total()) for counts in (diversity.train, diversity.test)]
        rows.append(
            [
                action, diversity.train[action], f"{shares[0]:.6f}", rank.get(action, ""), diversity.test[action],
                f"{shares[1]:.6f}",
            ]
        )  # fmt: skip
    _write(frequencies, rows)
    names = [
        "train_segments", "train_actions", "test_segments", "test_actions", "outside", "outside_segments", "unseen",
    ]  # fmt: skip
    rows = [["robot", "task", *names, "outside_share", "outside_segment_share"]]
    for one in diversity.coverage:
        shown = ["" if share is None else f"{share:.6f}" for share in (one.outside_share, one.outside_segment_share)]
        rows.append([one.robot or "all", one.task or "all", *(getattr(one, name) for name in names), *shown])
    _write(coverage, rows)
    return frequencies, coverage


def _write(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
