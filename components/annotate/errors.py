"""How often the annotations are wrong, from the random control that a person has reviewed, with an exact interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.annotate.episodes import Row, Rows, by_episode, iou, overlapping
from model.data.annotations import ACCEPTED
from model.errors import UserError
from model.evaluation.intervals import CONFIDENCE

# what a reviewer can find wrong with a segment
CUT, LABEL, TEXT = "cut", "label", "text"
KINDS: Mapping[str, tuple[str, ...]] = {"any": (CUT, LABEL, TEXT), CUT: (CUT,), LABEL: (LABEL,), TEXT: (TEXT,)}


def error_rates(sample: Mapping[str, Any], reviewed: Rows, fps: float, *, tolerance: float = 0.2) -> dict[str, Any]:
    """Share of wrong segments in the whole population, from the control of a sample.

    A segment is wrong by its `cut` when the reviewer removed it, split it, or moved an end by more than `tolerance`
    seconds; by its `label` when the action or the arm was changed; by its `text` when the sentence was.

    Returns:
        `population`, `control` and `pending` (segments whose review is not done); `rates`: of each of `KINDS` the
        `wrong` ones found, `rate` (None while any is pending) and its 95% interval `low` to `high`. With some pending,
        the interval reaches from none of them wrong to all of them.

    Raises:
        UserError: the sample has no control.
    """
    control = sample["control"]
    if not control:
        raise UserError("the sample has no control: draw one with `lingbot annotate sample --control 50`.")
    episodes = by_episode(reviewed)
    found = [faults(row, episodes.get(row["episode"], []), tolerance * fps) for row in control]
    pending = sum(one is None for one in found)
    rates = {}
    for kind, names in KINDS.items():
        wrong = sum(one is not None and any(name in one for name in names) for one in found)
        low = interval_of_share(wrong, len(control), sample["population"])[0]
        high = interval_of_share(wrong + pending, len(control), sample["population"])[1]
        rates[kind] = {"wrong": wrong, "rate": None if pending else wrong / len(control), "low": low, "high": high}
    return {"population": sample["population"], "control": len(control), "pending": pending, "rates": rates}


def faults(row: Row, reviewed: Rows, frames: float) -> set[str] | None:
    """What a reviewer changed of a segment; empty when it was right, None when it is not reviewed.

    Args:
        reviewed: the rows of its episode.
        frames: that an end may be moved by.
    """
    near = overlapping(row, reviewed)
    if not near:
        return {CUT} if any(one["review_state"] == ACCEPTED for one in reviewed) else None
    kept = max(near, key=lambda one: iou(row, one))
    if kept["review_state"] != ACCEPTED:
        return None
    wrong = set()
    if max(abs(kept[end] - row[end]) for end in ("start", "end")) > frames:
        wrong.add(CUT)
    if any(kept[name] != row[name] for name in ("atomic_action", "arm")):
        wrong.add(LABEL)
    if kept["sub_task"].lower().split() != row["sub_task"].lower().split():
        wrong.add(TEXT)
    return wrong


def interval_of_share(wrong: int, drawn: int, population: int) -> tuple[float, float]:
    """95% interval of the share of wrong things in a population, of which `drawn` were drawn without replacement.

    Exact, by inverting the hypergeometric tails (as Clopper and Pearson do for the binomial): it holds in 95% of
    samples or more, and has no width when everything was drawn.
    """
    from scipy.stats import hypergeom

    assert 0 <= wrong <= drawn <= population and drawn > 0
    possible = np.arange(wrong, population - drawn + wrong + 1)  # wrong things in the population, given what was seen
    tail = (1 - CONFIDENCE) / 2
    as_many = hypergeom.sf(wrong - 1, population, possible, drawn)
    as_few = hypergeom.cdf(wrong, population, possible, drawn)
    left = possible[(as_many > tail) & (as_few > tail)]
    return float(left[0] / population), float(left[-1] / population)


def planned(
    control: int, population: int, rates: Sequence[float] = (0.02, 0.1, 0.3)
) -> list[tuple[float, float, float]]:
    """What a control of that size will tell: a rate of errors that it may find, and the interval around it."""
    found = sorted({round(rate * control) for rate in rates})
    return [(wrong / control, *interval_of_share(wrong, control, population)) for wrong in found]
