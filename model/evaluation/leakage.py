"""Was anything that is evaluated also trained on? Scenes by their seeds, held-out episodes by their content.

A scene is its seed, whatever the task: two tasks may draw equal scenes from equal seeds. An episode is the sha256 of
its states and actions, so that a copy under another number is still the same episode. What was trained on is what the
policy's own record says (`model.data.seen`): its fine-tuning, its pretraining with every set of a mixture, and what led
to an initial checkpoint. A policy without a record is judged by the training split of the packed set.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from model.data.seen import NAME_LENGTH, Seen, SeenSet, episode_digests, training_seeds

if TYPE_CHECKING:
    from model.data.packed import PackedDataset

Ranges = list[list[int]]

NO_RECORD = "the policy has no record of its training data: the training split of the packed set was taken for it"


def digest_of_seeds(seeds: Iterable[int]) -> str:
    """sha256 over the sorted different seeds."""
    return _digest([int(seed) for seed in sorted(set(seeds))])


def ranges_of(seeds: Iterable[int]) -> Ranges:
    """The different seeds as [first, last] ranges, both inclusive: [0, 1, 2, 7] is [[0, 2], [7, 7]]."""
    ranges: Ranges = []
    for seed in sorted(set(seeds)):
        if ranges and ranges[-1][1] == seed - 1:
            ranges[-1][1] = int(seed)
        else:
            ranges.append([int(seed), int(seed)])
    return ranges


def shared(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> Ranges:
    """The seeds that lie in both lists of ranges, as ranges."""
    overlaps = [[max(a[0], b[0]), min(a[1], b[1])] for a in first for b in second if max(a[0], b[0]) <= min(a[1], b[1])]
    return sorted(overlaps)


def leakage_record(
    packed: "PackedDataset", seeds: Iterable[int], seen: Seen | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """`leakage` of evaluation.json, and what it adds to `digests`.

    Args:
        packed: whose held-out episodes judge the policy.
        seeds: of the scenes that were evaluated in simulation; empty without a closed loop.
        seen: what the policy's training saw; None when it has no record: then the packed set's training split counts.

    Returns:
        The record: `evaluation_seeds` and `training_seeds` as ranges (the latter None when no training data says from
        which scenes it came, as that of real robots), `shared_seeds` as ranges, `training_episodes` (of all sets) and
        `holdout_episodes` as counts, `shared_episodes` as [held out, in training]: the latter is an episode's number in
        the packed set, or the name of another set. `training_sets` are those of the policy's record with the number of
        episodes of each, null without a record; `unknown` says what else it was trained on without one. And the digests
        `evaluation_seeds`, `holdout_episodes`, `training_episodes` (of the packed set), and `training_data` (of the
        policy's record, where there is one).
    """
    seeds = set(seeds)
    trained, held_out = episode_digests(packed, "train"), episode_digests(packed, "holdout")
    known = training_seeds(packed) if seen is None else seen.seeds
    evaluated = ranges_of(seeds)
    found = {digest[:NAME_LENGTH] for digest in trained.values()}
    if seen is not None:
        found = {name for one in seen.sets for name in one.episodes}
    record = {
        "evaluation_seeds": evaluated,
        "training_seeds": None if known is None else [list(each) for each in known],
        "shared_seeds": [] if known is None else shared(evaluated, known),
        "training_episodes": len(found),
        "holdout_episodes": len(held_out),
        "shared_episodes": _copies(trained, held_out, seen),
        "training_sets": None if seen is None else [_described(one) for one in seen.sets],
        "unknown": [NO_RECORD] if seen is None else list(seen.unknown),
    }
    digests = {
        "evaluation_seeds": digest_of_seeds(seeds),
        "training_episodes": _digest(sorted(trained.values())),
        "holdout_episodes": _digest(sorted(held_out.values())),
    }
    if seen is not None:
        digests["training_data"] = _digest([[one.robot, one.episodes, one.seeds] for one in seen.sets])
    return record, digests


def _copies(trained: dict[int, str], held_out: dict[int, str], seen: Seen | None) -> list[list[int | str]]:
    """Held-out episodes that were trained on, each with where: an episode's number, or the name of a set."""
    number_of = {digest[:NAME_LENGTH]: number for number, digest in reversed(trained.items())}
    set_of = {} if seen is None else {name: one.name for one in reversed(seen.sets) for name in one.episodes}
    names = {number: digest[:NAME_LENGTH] for number, digest in held_out.items()}
    if seen is None:
        return [[number, number_of[name]] for number, name in names.items() if name in number_of]
    return [[number, number_of.get(name, set_of[name])] for number, name in names.items() if name in set_of]


def _described(one: SeenSet) -> dict[str, Any]:
    return {
        "stages": list(one.stages),
        "robot": one.robot,
        "episodes": len(one.episodes),
        "scenes_known": one.seeds is not None,
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
