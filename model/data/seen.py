"""What the training of a policy saw: the episodes by their content and the simulated scenes by their seeds.

It lies beside the weights (`training_data.json`) and travels with them, through a fine-tuning and through
`pretrain.initial_checkpoint`, so that an evaluation can say of a policy, and not only of the dataset beside it, that
nothing evaluated was trained on. What came before weights that have no such record is unknown, which is not nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.data.scenes import read_scenes
from model.errors import UserError

if TYPE_CHECKING:
    from model.data.packed import PackedDataset

FILE = "training_data.json"
SCHEMA_VERSION = 1
NAME_LENGTH = 16
"""Hex digits of an episode's sha256 that are kept: two of a million share them by chance once in 37 million times."""

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class SeenSet:
    """The training episodes of one packed set.

    Attributes:
        stages: what trained on it, in order: "pretrain", "finetune", and with "initial " before it what led to an
            initial checkpoint.
        robot: its id.
        episodes: the first `NAME_LENGTH` hex digits of each one's digest, sorted.
        seeds: of the simulated scenes they show, as [first, last] ranges; None when the dataset does not say, as those
            of real robots.
    """

    stages: tuple[str, ...]
    robot: str
    episodes: tuple[str, ...]
    seeds: Ranges | None

    @property
    def name(self) -> str:
        return f"{' and '.join(self.stages)} ({self.robot})"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All sets that a policy was trained on. `unknown` are sentences on what came before and left no record."""

    sets: tuple[SeenSet, ...] = ()
    unknown: tuple[str, ...] = ()

    def and_then(self, stage: str, packed: "PackedDataset", robot: str) -> "Seen":
        """With the training episodes of one more set; a set that was seen before gets one more stage."""
        new = _seen_set(stage, packed, robot)
        for number, one in enumerate(self.sets):
            if replace(one, stages=()) == replace(new, stages=()):
                stages = (*one.stages, *(() if stage in one.stages else (stage,)))
                return replace(self, sets=_put(self.sets, number, replace(one, stages=stages)))
        return replace(self, sets=(*self.sets, new))

    def as_initial(self) -> "Seen":
        """As what a policy had seen that is trained further: stages of before are told from those to come."""
        return replace(self, sets=tuple(replace(one, stages=tuple(map(_before, one.stages))) for one in self.sets))

    @property
    def seeds(self) -> Ranges | None:
        """Of every simulated scene that is known; None when no set knows any."""
        known = [one.seeds for one in self.sets if one.seeds is not None]
        return None if not known else merge(seeds for ranges in known for seeds in ranges)

    def write(self, folder: Path) -> None:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, indent=1, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_seen(folder: Path) -> Seen | None:
    """The record beside the weights in `folder`; None when there is none.

    Raises:
        UserError: it is of another schema, or cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"{path}: schema_version is {values['schema_version']}, this code reads {SCHEMA_VERSION}; update it"
            )
        return Seen(sets=tuple(_from_json(one) for one in values["sets"]), unknown=tuple(values["unknown"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a record of training data ({error!r}): train or fetch it again") from error


def episode_digests(packed: "PackedDataset", split: str) -> dict[int, str]:
    """Episode number -> sha256 of its states and actions."""
    digests = {}
    for number in packed.episodes(split):
        episode = packed.episode(number)
        hashed = hashlib.sha256()
        for key in ("state", "action"):
            values = np.ascontiguousarray(episode[key], dtype="<f4")
            hashed.update(f"{key} {values.shape}".encode())
            hashed.update(values.tobytes())
        digests[number] = hashed.hexdigest()
    return digests


def training_seeds(packed: "PackedDataset") -> Ranges | None:
    """Seeds of the scenes that the training episodes show; None when the dataset did not say."""
    scenes = read_scenes(packed.folder)
    if scenes is None:
        return None
    return merge((scenes[number],) * 2 for number in packed.episodes("train") if number in scenes)


def merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted ranges of which none touches another: (0, 3), (2, 5), (6, 6) is (0, 6)."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _seen_set(stage: str, packed: "PackedDataset", robot: str) -> SeenSet:
    digests = episode_digests(packed, "train").values()
    names = tuple(sorted({digest[:NAME_LENGTH] for digest in digests}))
    return SeenSet(stages=(stage,), robot=robot, episodes=names, seeds=training_seeds(packed))


def _put(sets: tuple[SeenSet, ...], number: int, one: SeenSet) -> tuple[SeenSet, ...]:
    return (*sets[:number], one, *sets[number + 1 :])


def _before(stage: str) -> str:
    return stage if stage.startswith("initial ") else f"initial {stage}"


def _from_json(values: Mapping[str, Any]) -> SeenSet:
    seeds = values["seeds"]
    return SeenSet(
        stages=tuple(values["stages"]),
        robot=values["robot"],
        episodes=tuple(values["episodes"]),
        seeds=None if seeds is None else tuple((int(first), int(last)) for first, last in seeds),
    )
