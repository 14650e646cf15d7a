"""The rules an episode is judged by: which measurement, its limits, what to do about a fault, and in which suite."""

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
    """

    name: str
    concern: str
    column: str
    fix: str
    low: float | None = None
    high: float | None = 0
    severity: str = ERROR
    once: bool = False


CONCERNS = ("schema", "timing", "video", "values", "depth")
RESTORE = "Restore the file, or leave the episode out."
RECORD = "Record the episode again, or leave it out."


def episode_rules(spacing_tolerance: float, drift_tolerance: float) -> tuple[Rule, ...]:
    """The rules, with the tolerances of a run.

    Args:
        spacing_tolerance: of one step between timestamps, as a fraction of 1/fps.
        drift_tolerance: of the whole span of an episode's timestamps, as a fraction of it.
    """
    return (
        Rule(name="table_missing", concern="schema", column="table_missing", fix=RESTORE),
        Rule(name="table_unreadable", concern="schema", column="table_unreadable", fix=RESTORE),
        Rule(name="too_short", concern="schema", column="frames", low=2, high=None, fix=RECORD),
        Rule(name="column_missing", concern="schema", column="columns_missing", fix=RECORD),
        Rule(
            name="wrong_dimensions",
            concern="schema",
            column="wrong_width_columns",
            fix="Correct the table or the feature's shape in meta/info.json.",
        ),
        Rule(
            name="length",
            concern="schema",
            column="length_difference",
            fix="Restore the table, or correct the episode's length in meta/episodes.",
        ),
        Rule(name="task_missing", concern="schema", column="task_missing", fix="Add its sentence to meta/tasks."),
        Rule(name="timestamps_not_increasing", concern="timing", column="steps_backwards", fix=RECORD),
        Rule(
            name="timestamp_spacing",
            concern="timing",
            column="spacing_error",
            high=spacing_tolerance,
            fix="Frames were lost or fps in meta/info.json is wrong: record the episode again, or correct fps.",
        ),
        Rule(
            name="timestamp_drift",
            concern="timing",
            column="drift",
            high=drift_tolerance,
            fix="Correct fps in meta/info.json, or resample the episode.",
        ),
        Rule(
            name="timestamp_offset",
            concern="timing",
            column="start_offset",
            high=0.5,
            fix="Frames are taken by their position, so nothing is lost; other readers may be one frame late.",
            severity=WARNING,
            once=True,
        ),
        Rule(name="video_missing", concern="video", column="video_missing", fix=RESTORE),
        Rule(name="video_unreadable", concern="video", column="video_unreadable", fix=RESTORE),
        Rule(name="video_frames", concern="video", column="video_frame_difference", fix=RECORD),
        Rule(name="not_finite", concern="values", column="values_not_finite", fix=RECORD),
        Rule(
            name="depth_missing",
            concern="depth",
            column="depth_missing",
            fix="Restore the file, or remove meta/depth.json to train without depth.",
        ),
        Rule(name="depth_unreadable", concern="depth", column="depth_unreadable", fix=RESTORE),
        Rule(name="depth_frames", concern="depth", column="depth_frame_difference", fix=RECORD),
    )
