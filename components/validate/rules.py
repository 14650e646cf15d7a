"""A rule: which measurement of an episode, its limits, what to do about a fault, and in which suite."""

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A limit on one column of the episode summary.

    Attributes:
        name: what quarantine.yaml and verdict.json call it.
        concern: the Great Expectations suite it belongs to.
        column: of `EpisodeSummary.values`.
        low, high: the allowed range; None is open.
        fix: what a person does about it, the end of each finding's sentence.
        severity: an `error` quarantines the episode, a `warning` does not.
        once: reported once for the dataset, with the episodes that have it, not once an episode.
        picture: what shows it: 'frames' of a camera, a 'plot' of a column, or '' for nothing.
    """

    name: str
    concern: str
    column: str
    fix: str
    low: float | None = None
    high: float | None = 0
    severity: str = ERROR
    once: bool = False
    picture: str = ""


CONCERNS = (
    "schema", "text", "timing", "video", "pictures", "views", "values", "units", "limits", "motion", "tracking",
    "stillness", "gripper", "duplicates", "statistics", "depth",
)  # fmt: skip
RESTORE = "Restore the file, or leave the episode out."
RECORD = "Record the episode again, or leave it out."
