"""Annotations as tasks of Label Studio: its Video tag with TimelineLabels, the words of each segment per region.

A range of TimelineLabels counts frames from 1 and holds its last one; a segment of ours counts from 0 and does not.
Each task also carries the rows that it was made from, so that what nobody touched comes back as it was.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.annotate.episodes import Row, is_finished
from components.annotate.review.edits import ARMS, revision
from model.data.segmentation import ACTIONS

SCHEMA_VERSION = 1
CARRIED = "lingbot"  # key of a task's data
VIDEO = "video"  # name of the object that every label is about
ACTION, ARM, TASK = "atomic_action", "arm", "task"
REGION_TEXTS = {"sub_task": "Sub-task", "verb": "Verb", "objects": "Objects, separated by commas"}
NO_ARM = "none"


def make_tasks(
    episodes: Mapping[int, Sequence[Row]], *, fps: float, lengths: Mapping[int, int], videos: Mapping[int, str]
) -> list[dict[str, Any]]:
    """One task an episode: an annotation where a person has accepted all of it, a prediction otherwise.

    Args:
        episodes: rows by episode.
        lengths: frames of each episode.
        videos: address of each episode's video, as Label Studio's browser asks for it.
    """
    return [
        _task(episode, rows, fps=fps, length=lengths[episode], video=videos[episode])
        for episode, rows in sorted(episodes.items())
    ]


def _task(episode: int, rows: Sequence[Row], *, fps: float, length: int, video: str) -> dict[str, Any]:
    result = [entry for number, row in enumerate(rows) for entry in _region(f"segment-{number}", row)]
    result.append(_text("task", TASK, rows[0]["task"], {}))
    data = {
        VIDEO: video,
        "fps": fps,
        "title": f"Episode {episode}",
        CARRIED: {
            "schema_version": SCHEMA_VERSION,
            "episode": episode,
            "length": length,
            "revision": revision(rows),
            "rows": [dict(row) for row in rows],
        },
    }
    if is_finished(rows):
        return {"data": data, "annotations": [{"result": result}]}
    sources = ", ".join(sorted({row["source"] for row in rows}))
    score = min(row["confidence"] for row in rows)
    return {"data": data, "predictions": [{"model_version": sources, "score": score, "result": result}]}


def _region(identity: str, row: Row) -> Iterable[dict[str, Any]]:
    ranges = {"ranges": [{"start": row["start"] + 1, "end": row["end"]}]}
    yield _entry(identity, ACTION, "timelinelabels", {**ranges, "timelinelabels": [row[ACTION]]})
    yield _entry(identity, ARM, "choices", {**ranges, "choices": [row[ARM] or NO_ARM]})
    for name in REGION_TEXTS:
        if row[name]:
            yield _text(identity, name, row[name], ranges)


def _text(identity: str, name: str, text: str, where: Mapping[str, Any]) -> dict[str, Any]:
    return _entry(identity, name, "textarea", {**where, "text": [text]})


def _entry(identity: str, name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": identity, "from_name": name, "to_name": VIDEO, "type": kind, "value": dict(value)}


def make_config(episodes: Mapping[int, Sequence[Row]]) -> str:
    """The labelling interface of a project that reads these tasks: XML, every atomic action in use a label."""
    used = {row[ACTION] for rows in episodes.values() for row in rows}
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$title")
    ET.SubElement(view, "Video", name=VIDEO, value=f"${VIDEO}", frameRate="$fps", timelineHeight="96")
    labels = ET.SubElement(view, "TimelineLabels", name=ACTION, toName=VIDEO)
    for action in sorted(used | set(ACTIONS)):
        ET.SubElement(labels, "Label", value=action)
    arms = ET.SubElement(
        view, "Choices", name=ARM, toName=VIDEO, perRegion="true", choice="single-radio", showInline="true"
    )
    for arm in ARMS:
        ET.SubElement(arms, "Choice", value=arm or NO_ARM)
    for name, label in REGION_TEXTS.items():
        _text_area(view, name, label, of_region=True)
    _text_area(view, TASK, "Task of the whole episode")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _text_area(view: ET.Element, name: str, label: str, *, of_region: bool = False) -> None:
    area = ET.SubElement(view, "TextArea", name=name, toName=VIDEO, placeholder=label, maxSubmissions="1", rows="1")
    area.set("editable", "true")
    if of_region:
        area.set("perRegion", "true")
