"""What an episode's table holds: presence, columns, widths, numbering, text, time, and values that are numbers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from components.validate.summary import EpisodeSummary, listed, without_root
from model.data.lerobot import ACTION, EEF_POSE, STATE, LeRobotDataset
from model.data.lerobot_layout import Episode, is_instruction
from model.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

VECTORS = (STATE, ACTION, EEF_POSE)


def measure_table(
    dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary, gap_periods: float
) -> "pa.Table | None":
    """Measures the table of an episode and keeps its finite vectors in `row.vectors`; None when it cannot be read.

    Args:
        gap_periods: by how much of 1/fps a step between timestamps is too long to be jitter.
    """
    row.measure("table_missing", episode.table is None, "its table is missing")
    if episode.table is None:
        return None
    try:
        table = dataset.table(episode.index)
    except UserError as error:
        row.measure("table_unreadable", 1, without_root(str(error), dataset), file=episode.table)
        return None
    row.measure("table_unreadable", 0)
    row.frames = table.num_rows
    row.measure("frames", row.frames, f"its table has {row.frames} frames, a motion needs 2", frames=row.frames)
    row.measure(
        "length_difference",
        abs(row.frames - episode.length),
        f"its table has {row.frames} frames, the metadata declares {episode.length}",
        table=row.frames,
        declared=episode.length,
    )
    missing = [key for key in (STATE, ACTION, "timestamp") if key not in table.column_names]
    row.measure("columns_missing", len(missing), listed("its table lacks column", missing), columns=missing)
    _measure_numbering(episode, row, table)
    _measure_vectors(dataset, episode, row, table)
    if "timestamp" not in missing:
        _measure_time(dataset, episode, row, table, gap_periods)
    _measure_text(dataset, episode, row, table)
    return table


def _measure_numbering(episode: Episode, row: EpisodeSummary, table: "pa.Table") -> None:
    for key, expected in (
        ("frame_index", np.arange(row.frames)),
        ("episode_index", np.full(row.frames, episode.index)),
    ):
        if key not in table.column_names:
            continue
        found = table[key].to_numpy()
        wrong = np.flatnonzero(found != expected)
        first = int(wrong[0]) if wrong.size else 0
        row.measure(
            f"{key}_faults",
            len(wrong),
            f"column '{key}' is wrong in {len(wrong)} frames, the first is frame {first}: {found[first]}, it must be "
            f"{expected[first]}"
            if wrong.size
            else "",
            frame=first,
            frames=len(wrong),
        )


def _measure_vectors(dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary, table: "pa.Table") -> None:
    wrong: dict[str, str] = {}
    bad: list[dict[str, Any]] = []
    for key in VECTORS:
        if key not in table.column_names:
            continue
        try:
            values = dataset.column(episode.index, table, key)
        except UserError as error:
            wrong[key] = without_root(str(error), dataset)
            continue
        if np.isfinite(values).all():
            row.vectors[key] = values
            continue
        where = np.argwhere(~np.isfinite(values))
        frame, dimension = map(int, where[0])
        feature = dataset.info.features.get(key)
        names = feature.names if feature is not None else ()
        bad.append(
            {
                "column": key,
                "count": len(where),
                "first_frame": frame,
                "dimension": dimension,
                "name": names[dimension] if names else str(dimension),
            }
        )
    row.measure("wrong_width_columns", len(wrong), "; ".join(wrong.values()), columns=sorted(wrong))
    told = "; ".join(
        f"column '{entry['column']}' has {entry['count']} values that are NaN or infinite, the first at frame "
        f"{entry['first_frame']} in dimension {entry['dimension']} ('{entry['name']}')"
        for entry in bad
    )
    row.measure("values_not_finite", sum(entry["count"] for entry in bad), told, columns=bad)


def _measure_time(
    dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary, table: "pa.Table", gap_periods: float
) -> None:
    period = 1.0 / dataset.info.fps
    try:
        times = dataset.column(episode.index, table, "timestamp")[:, 0]
    except UserError as error:
        row.measure("steps_backwards", 1, without_root(str(error), dataset))
        return
    row.vectors["timestamp"] = times[:, None]
    steps = np.diff(times)
    backwards = np.flatnonzero(~(steps > 0))  # NaN is not forward either
    first = int(backwards[0]) + 1 if backwards.size else 0
    row.measure(
        "steps_backwards",
        len(backwards),
        f"column 'timestamp' does not increase at {len(backwards)} frames, the first is frame {first}",
        frames=len(backwards),
        first_frame=first,
        column="timestamp",
        frame=first,
    )
    if backwards.size or not len(steps):
        return
    gaps = steps > (1 + gap_periods) * period
    longest = int(np.argmax(steps))
    row.measure(
        "largest_gap",
        steps[longest] / period - 1 if gaps.any() else 0,
        f"column 'timestamp' jumps {steps[longest]:.4g} s at frame {longest + 1}, {gaps.sum()} times in all; about "
        f"{round((steps[gaps] / period - 1).sum())} frames were lost",
        column="timestamp",
        frame=longest + 1,
        gaps=int(gaps.sum()),
    )
    even = np.where(gaps, period, steps)
    worst = int(np.argmax(np.abs(even - period)))
    row.measure(
        "spacing_error",
        abs(float(even[worst]) - period) / period,
        f"column 'timestamp' steps {even[worst]:.4g} s at frame {worst + 1}; at {dataset.info.fps:g} fps it must be "
        f"{period:.4g} s",
        column="timestamp",
        frame=worst + 1,
        seconds=round(float(even[worst]), 6),
    )
    expected, spanned = len(steps) * period, float(even.sum())
    row.measure(
        "drift",
        abs(spanned - expected) / expected,
        f"column 'timestamp' spans {spanned:.4g} s for {len(times)} frames; at {dataset.info.fps:g} fps it must be "
        f"{expected:.4g} s",
        seconds=round(spanned, 6),
        expected=round(expected, 6),
    )
    start = float(times[0])
    row.measure("start_offset", abs(start) / period, f"column 'timestamp' starts at {start:.4g} s", seconds=start)


def _measure_text(dataset: LeRobotDataset, episode: Episode, row: EpisodeSummary, table: "pa.Table") -> None:
    try:
        row.task = dataset.instruction(episode.index, table)
        row.measure("task_missing", not row.task, "it has no task text", declared=list(episode.tasks))
    except UserError as error:
        row.measure("task_missing", 1, without_root(str(error), dataset))
    if "task_index" in table.column_names and table.num_rows:
        numbers = table["task_index"].to_numpy()
        changed = np.flatnonzero(np.diff(numbers))
        said = {dataset.tasks.get(int(number), "") for number in np.unique(numbers)}
        instructions = sum(is_instruction(task) for task in said)
        frame = int(changed[0]) + 1 if changed.size else 0
        row.measure(
            "task_changes",
            len(changed) if instructions > 1 else 0,
            f"its task changes {len(changed)} times, first at frame {frame}; it has one instruction",
            frame=frame,
        )
    if not row.task:
        return
    text = row.task
    row.measure(
        "task_characters",
        len(text),
        f"its task text has {len(text)} characters: '{text[:60]}...'",
        characters=len(text),
    )
    row.measure("task_words", len(text.split()), f"its task text is no sentence: '{text[:60]}'", text=text[:60])
    odd = sorted({character for character in text if not character.isprintable() or character == "\ufffd"})
    row.measure(
        "task_odd_characters",
        len(odd),
        f"its task text has characters that no sentence has: {', '.join(ascii(character) for character in odd)}",
        characters=[ascii(character) for character in odd],
    )
