"""A task's checkpoints for evaluation, drawn from annotated demonstrations: the actions that they have in common.

Progress (PS) is the share of ordered checkpoints that a trial passes; `lingbot evaluate score --protocol` reads them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from components.annotate.episodes import Row, Rows
from model.errors import UserError

Action = tuple[str, str]  # atomic action and arm: what is compared, as sentences differ in their wording
NO_PROGRESS = ("wait", "hold")  # nothing is reached by them
MIN_EPISODES = 3  # two have too much in common by chance


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One thing that a trial has to reach.

    Attributes:
        name: the most frequent sub-task sentence of its segments; a second one of that name has a number.
        share: of the demonstrations, those that have it in this place.
        seconds: when it is reached in them, at the end of its segment; the median.
    """

    name: str
    share: float
    seconds: float


def draw_checkpoints(episodes: Mapping[int, Rows], fps: float, *, min_share: float = 0.8) -> tuple[Checkpoint, ...]:
    """The checkpoints of one task, in order, from its annotated episodes (segments in order of time).

    The episode whose actions have most in common with the others' gives the order; of its actions those stay that at
    least `min_share` of the episodes have in that order too (longest common subsequence).

    Raises:
        UserError: fewer than `MIN_EPISODES` episodes, or nothing that enough of them have in common.
    """
    sequences = {
        episode: [row for row in rows if row["atomic_action"] not in NO_PROGRESS] for episode, rows in episodes.items()
    }
    if len(sequences) < MIN_EPISODES:
        raise UserError(f"{len(sequences)} annotated episodes: checkpoints need {MIN_EPISODES} or more of a task.")
    common = {
        one: {other: _common(sequences[one], sequences[other]) for other in sequences} for one in sorted(sequences)
    }
    # the least number among equals
    middle = max(common, key=lambda one: (sum(map(len, common[one].values())), -one))
    found: list[Checkpoint] = []
    names: Counter[str] = Counter()
    for place in range(len(sequences[middle])):
        rows = [sequences[other][pairs[place]] for other, pairs in common[middle].items() if place in pairs]
        share = len(rows) / len(sequences)
        if share < min_share:
            continue
        words = Counter(" ".join(row["sub_task"].split()) or row["atomic_action"] for row in rows)
        name = min(words, key=lambda text: (-words[text], text))
        names[name] += 1
        numbered = f"{name} ({names[name]})" if names[name] > 1 else name
        found.append(Checkpoint(name=numbered, share=share, seconds=median(row["end"] / fps for row in rows)))
    if not found:
        raise UserError(
            f"no action is common to {min_share:.0%} of {len(sequences)} episodes: choose a lower --min-share."
        )
    return tuple(found)


def protocol_text(
    benchmark: str, robot: str, tasks: Mapping[str, Sequence[Checkpoint]], episodes: Mapping[str, int]
) -> str:
    """A protocol for `lingbot evaluate score --protocol`, as YAML with a remark on each checkpoint.

    Args:
        tasks: instruction -> its checkpoints.
        episodes: instruction -> annotated episodes that they were drawn from.
    """
    import yaml

    def quoted(text: str) -> str:
        return yaml.safe_dump(text, default_style='"', width=1000, allow_unicode=True).strip()

    lines = [
        "# Drawn from annotated demonstrations: take out what does not matter for success, and reword what a person at",
        "# the robot could not judge. A remark says how many demonstrations have it, and when (median).",
        f"benchmark: {quoted(benchmark)}",
        f"robots: [{quoted(robot)}]",
        "tasks:",
    ]
    names: Counter[str] = Counter()
    for instruction, checkpoints in tasks.items():
        name = task_name(instruction)
        names[name] += 1
        lines.append(f"  - name: {name}{f'_{names[name]}' if names[name] > 1 else ''}")
        lines.append(f"    instruction: {quoted(instruction)}")
        lines.append(f"    checkpoints: # of {episodes[instruction]} episodes")
        lines += [f"      - {quoted(one.name)} # {one.share:.0%}, {one.seconds:.1f} s" for one in checkpoints]
    return "\n".join(lines) + "\n"


def task_name(instruction: str) -> str:
    """A name from an instruction: lower-case words joined by underscores."""
    return re.sub(r"\W+", "_", instruction.lower()).strip("_")


def _common(first: Rows, second: Rows) -> dict[int, int]:
    """Places of a longest common subsequence of two episodes' actions: place in `first` -> place in `second`."""
    one, other = [_action(row) for row in first], [_action(row) for row in second]
    best = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in reversed(range(len(one))):
        for j in reversed(range(len(other))):
            best[i][j] = best[i + 1][j + 1] + 1 if one[i] == other[j] else max(best[i + 1][j], best[i][j + 1])
    pairs, i, j = {}, 0, 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _action(row: Row) -> Action:
    return row["atomic_action"], row["arm"]
