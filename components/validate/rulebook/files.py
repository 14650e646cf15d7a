"""Rules about files, tables, text and time."""

from components.validate.rules import RECORD, RESTORE, WARNING, Rule
from components.validate.thresholds import Thresholds


def file_rules(thresholds: Thresholds, spacing_tolerance: float, drift_tolerance: float) -> tuple[Rule, ...]:
    return (*_schema(), *_text(thresholds), *_timing(thresholds, spacing_tolerance, drift_tolerance), *_depth())


def _schema() -> tuple[Rule, ...]:
    number = "Number the rows again; frames are taken by their position."
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
        Rule(name="frame_index", concern="schema", column="frame_index_faults", fix=number),
        Rule(name="episode_index", concern="schema", column="episode_index_faults", fix=number),
    )


def _text(t: Thresholds) -> tuple[Rule, ...]:
    return (
        Rule(name="task_missing", concern="text", column="task_missing", fix="Add its sentence to meta/tasks."),
        Rule(
            name="task_too_long",
            concern="text",
            column="task_characters",
            high=t["task_characters"],
            fix="Shorten it in meta/tasks: the policy reads the beginning alone.",
        ),
        Rule(
            name="task_too_short",
            concern="text",
            column="task_words",
            low=t["task_words"],
            high=None,
            fix="Write what to do with what in meta/tasks.",
        ),
        Rule(
            name="task_characters",
            concern="text",
            column="task_odd_characters",
            fix="Write the sentence in meta/tasks again, as UTF-8 on one line.",
        ),
        Rule(
            name="task_changes",
            concern="text",
            column="task_changes",
            fix="Cut the episode where the task changes, or correct column 'task_index'.",
        ),
    )


def _timing(t: Thresholds, spacing_tolerance: float, drift_tolerance: float) -> tuple[Rule, ...]:
    return (
        Rule(name="timestamps_not_increasing", concern="timing", column="steps_backwards", fix=RECORD, picture="plot"),
        Rule(
            name="timestamp_gap",
            concern="timing",
            column="largest_gap",
            high=t["gap_periods"],
            fix="Frames were lost: record the episode again, or cut it there.",
            picture="plot",
        ),
        Rule(
            name="timestamp_spacing",
            concern="timing",
            column="spacing_error",
            high=spacing_tolerance,
            fix="The recorder was late or fps in meta/info.json is wrong: record the episode again, or correct fps.",
            picture="plot",
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
    )


def _depth() -> tuple[Rule, ...]:
    return (
        Rule(
            name="depth_missing",
            concern="depth",
            column="depth_missing",
            fix="Restore the file, or remove meta/depth.json to train without depth.",
        ),
        Rule(name="depth_unreadable", concern="depth", column="depth_unreadable", fix=RESTORE),
        Rule(name="depth_frames", concern="depth", column="depth_frame_difference", fix=RECORD),
    )
