"""How far two reviewers of the same episodes agree: on labels (Cohen's kappa) and on where the cuts lie."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from components.annotate.episodes import Rows, by_episode, check_within, is_finished, same_segments
from components.annotate.kappa import Pairs, cohen_kappa
from model.data.segmentation_score import BoundaryScore, boundaries, mean_iou, score_boundaries
from model.errors import UserError

NOTHING = "(none)"  # the label of a frame outside of every segment
LABELS = ("atomic_action", "arm")
TEXTS = ("verb", "objects", "sub_task")


def compare(
    first: Rows, second: Rows, lengths: Mapping[int, int], fps: float, *, tolerance: float = 0.2
) -> dict[str, Any]:
    """Agreement over the episodes of which both reviewers have accepted every segment.

    Args:
        lengths: frames of each episode of the dataset.
        fps: frames a second.
        tolerance: seconds within which two boundaries count as the same one.

    Returns:
        `episodes` compared and `unfinished` (in both files, but not accepted whole by both); `reviewers` of each file;
        `kappa` of each of `LABELS` over frames, and over the segments that both have; `texts`, the share of those
        segments with equal words; `boundaries`: F1 within the tolerance and distances to the nearest one in seconds;
        `iou`, the mean overlap of segments, over both directions.

    Raises:
        UserError: no episode was reviewed by both, or a segment lies outside of its episode.
    """
    for name, rows in (("FIRST", first), ("SECOND", second)):
        check_within(rows, lengths, name)
    sides = by_episode(first), by_episode(second)
    common = sorted(sides[0].keys() & sides[1].keys())
    finished = [episode for episode in common if all(is_finished(side[episode]) for side in sides)]
    if not finished:
        raise UserError(
            f"no episode is reviewed in both files: {len(common)} are in both, and in none of them have both reviewers "
            "accepted every segment; let both review the same episodes (`lingbot annotate sample` draws some)."
        )
    frames: dict[str, list[Pairs]] = {label: [] for label in LABELS}
    segments: dict[str, list[Pairs]] = {label: [] for label in LABELS}
    equal: Counter[str] = Counter()
    matched, score = 0, BoundaryScore()
    distances: list[float] = []
    overlaps: list[float] = []
    for episode in finished:
        pair = sides[0][episode], sides[1][episode]
        same = same_segments(*pair)
        matched += len(same)
        for label in LABELS:
            frames[label].append(_frame_pairs(pair, label, lengths[episode]))
            segments[label].append(Counter((one[label], other[label]) for one, other in same))
        for text in TEXTS:
            equal[text] += sum(_words(one[text]) == _words(other[text]) for one, other in same)
        spans = [[(row["start"] / fps, row["end"] / fps) for row in rows] for rows in pair]
        cuts = [boundaries(side) for side in spans]
        score += score_boundaries(cuts[0], cuts[1], tolerance)
        distances += _nearest(cuts[0], cuts[1]) + _nearest(cuts[1], cuts[0])
        overlaps.append((mean_iou(spans[0], spans[1]) + mean_iou(spans[1], spans[0])) / 2)
    return {
        "episodes": len(finished),
        "unfinished": len(common) - len(finished),
        "reviewers": [reviewers([row for episode in finished for row in side[episode]]) for side in sides],
        "segments": [sum(len(side[episode]) for episode in finished) for side in sides],
        "segments_in_both": matched,
        "kappa": {
            label: {
                unit: asdict(found) if (found := cohen_kappa(pairs[label])) is not None else None
                for unit, pairs in (("frames", frames), ("segments", segments))
            }
            for label in LABELS
        },
        "texts": {text: equal[text] / matched if matched else None for text in TEXTS},
        "boundaries": {
            "tolerance": tolerance,
            "f1": score.f1,
            "mean": float(np.mean(distances)),
            "median": float(np.median(distances)),
            "p95": float(np.quantile(distances, 0.95)),
        },
        "iou": float(np.mean(overlaps)),
    }


def reviewers(rows: Rows) -> list[str]:
    """Names of those who accepted the rows, sorted; "unnamed" for rows that name nobody."""
    return sorted({row["reviewer"] or "unnamed" for row in rows})


def _frame_pairs(sides: Sequence[Rows], label: str, length: int) -> Pairs:
    """How often each pair of labels meets in a frame of the episode."""
    names = [[NOTHING] * length for _ in sides]
    for rows, painted in zip(sides, names, strict=True):
        for row in rows:
            painted[row["start"] : row["end"]] = [row[label]] * (row["end"] - row["start"])
    return Counter(zip(*names, strict=True))


def _nearest(cuts: Sequence[float], others: Sequence[float]) -> list[float]:
    """Seconds from each cut to the nearest of the others."""
    return np.abs(np.subtract.outer(np.asarray(cuts), np.asarray(others))).min(axis=1).tolist()


def _words(text: str) -> str:
    return " ".join(text.lower().split())
