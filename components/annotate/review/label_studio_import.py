"""What people did in Label Studio, from its JSON export, as changes of the review file."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.annotate.episodes import Row
from components.annotate.review.label_studio import (
    ACTION,
    ARM,
    CARRIED,
    NO_ARM,
    REGION_TEXTS,
    SCHEMA_VERSION,
    TASK,
)
from model.data.annotations import ACCEPTED, COLUMNS
from model.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An episode of an export.

    Attributes:
        rows: as they were exported to Label Studio, with their `revision`.
        segments: as a person submitted them, with the columns of `edits.EDITABLE`; None where nobody did.
        reviewer: of the submission, as Label Studio names them.
        now: when, ISO 8601, UTC; "" where the export does not say.
    """

    episode: int
    length: int
    revision: str
    rows: list[dict[str, Any]]
    segments: list[dict[str, Any]] | None
    reviewer: str = ""
    now: str = ""


def read_tasks(tasks: Any, *, annotator: str = "") -> list[Labelled]:
    """The episodes of a JSON export of Label Studio.

    Args:
        annotator: whose submissions to take, by e-mail or number, where several people labelled a task.

    Raises:
        UserError: it is no such export, not of tasks of `lingbot annotate export`, or several people labelled a task.
    """
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise UserError("there is no list of tasks in it: in Label Studio choose Export, format JSON.")
    found = [_read(number, task, annotator) for number, task in enumerate(tasks)]
    episodes = [one.episode for one in found]
    twice = sorted({episode for episode in episodes if episodes.count(episode) > 1})
    if twice:
        raise UserError(f"episode {twice[0]} has two tasks in the file: export one project, with one import of them.")
    return found


def _read(number: int, task: Mapping[str, Any], annotator: str) -> Labelled:
    try:
        return _labelled(number, task, annotator)
    except UserError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # of another shape, at whatever depth
        raise UserError(
            f"task {number} is not as Label Studio exports it ({type(error).__name__}: {error}): export it again, "
            "format JSON."
        ) from error


def _labelled(number: int, task: Mapping[str, Any], annotator: str) -> Labelled:
    data = task.get("data")
    carried = data.get(CARRIED) if isinstance(data, dict) else None
    if not isinstance(carried, dict) or not {"episode", "length", "revision", "rows"} <= carried.keys():
        raise UserError(
            f"task {number} has no `{CARRIED}` in its data: only tasks of `lingbot annotate export` come back."
        )
    version = carried.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"task {number} has schema version {version}, this code reads {SCHEMA_VERSION}: export it anew."
        )
    rows = [{name: row[name] for name in COLUMNS} for row in carried["rows"]]
    episode = int(carried["episode"])
    known = Labelled(
        episode=episode, length=int(carried["length"]), revision=carried["revision"], rows=rows, segments=None
    )
    submitted = [each for each in task.get("annotations") or () if not each.get("was_cancelled")]
    names = [_name(each) for each in submitted]
    if annotator:
        submitted = [each for each, name in zip(submitted, names, strict=True) if annotator in _aliases(each)]
    elif len(set(names)) > 1:
        raise UserError(
            f"episode {episode} was labelled by {', '.join(sorted(set(names)))}: choose one with --annotator, "
            "and import the others into files of their own; `lingbot annotate agreement` compares them."
        )
    if not submitted:
        return known
    times = [_time(episode, each.get("updated_at") or each.get("created_at")) for each in submitted]
    now, last = max(zip(times, submitted, strict=True), key=lambda one: one[0])
    return Labelled(
        episode=episode,
        length=known.length,
        revision=known.revision,
        rows=rows,
        segments=_segments(episode, last.get("result") or (), rows),
        reviewer=_name(last),
        now=now,
    )


def _segments(episode: int, result: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    regions: dict[str, dict[str, Any]] = {}
    words: dict[str, dict[str, str]] = {}
    task = rows[0][TASK] if rows else ""
    for entry in result:
        name, identity, value = entry.get("from_name"), str(entry.get("id")), entry.get("value") or {}
        if name == ACTION:
            regions[identity] = _region(episode, value)
        elif name == ARM:
            chosen = _one(episode, name, value.get("choices"))
            words.setdefault(identity, {})[ARM] = "" if chosen == NO_ARM else chosen
        elif name in REGION_TEXTS:
            words.setdefault(identity, {})[name] = _joined(value.get("text"))
        elif name == TASK:
            task = _joined(value.get("text"))
    empty = dict.fromkeys((ARM, *REGION_TEXTS), "")
    return [
        {**empty, **region, **words.get(identity, {}), TASK: task, "review_state": ACCEPTED}
        for identity, region in regions.items()
    ]


def _region(episode: int, value: Mapping[str, Any]) -> dict[str, Any]:
    ranges: list[dict[str, Any]] = value.get("ranges") or []
    if len(ranges) != 1 or not {"start", "end"} <= ranges[0].keys():
        raise UserError(f"a region of episode {episode} has the ranges {ranges!r}: it needs one, with its ends.")
    return {
        "start": round(ranges[0]["start"]) - 1,
        "end": round(ranges[0]["end"]),
        ACTION: _one(episode, ACTION, value.get("timelinelabels")),
    }


def _one(episode: int, name: str, values: Any) -> str:
    if not isinstance(values, list) or len(values) != 1:
        raise UserError(
            f"a region of episode {episode} has {name} {values!r}: choose one in Label Studio, and export again."
        )
    return str(values[0])


def _joined(texts: Any) -> str:
    return " ".join(str(text) for text in (texts if isinstance(texts, list) else [texts or ""])).strip()


def _name(annotation: Mapping[str, Any]) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        return str(by.get("email") or by.get("username") or f"Label Studio user {by.get('id')}")
    return "Label Studio" if by is None else f"Label Studio user {by}"


def _aliases(annotation: Mapping[str, Any]) -> set[str]:
    by = annotation.get("completed_by")
    return {str(value) for value in by.values()} if isinstance(by, dict) else {str(by)}


def _time(episode: int, text: Any) -> str:
    if not text:
        return ""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError as error:
        raise UserError(f"the annotation of episode {episode} has the time '{text}', which is none.") from error
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds")
