"""Cuts the usable episodes into atomic actions and gives each its sentences (README.md says how)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.annotate.parameters import Parameters
from model.progress import Progress

if TYPE_CHECKING:
    from components.annotate.asking import Counts
    from model.data.lerobot import LeRobotDataset
    from model.data.segmentation import AtomicSegment
    from model.robots import Robot

NAME = "annotate"
INPUTS = ("dataset", "verdict")
TEMPLATE = "template"


def run(inputs: Mapping[str, Path], output: Path, parameters: Parameters, progress: Progress) -> dict[str, Any]:
    """Write annotations.parquet into `output`: one row a segment, static heads and tails left out.

    Returns:
        episodes, segments, how often each atomic action occurs, the mean confidence, episodes that a person has
        accepted, and with a model what it took: requests, answers from the cache, failures, tokens and their price.

    Raises:
        UserError: the dataset, the quarantine list or the reviewed file cannot be read; the episode and column are
            named. With a model also: it cannot be asked, or too many episodes got no text.
    """
    from components.annotate.cutting import settings_of
    from model.data.annotations import FAILED, write_annotations
    from model.data.lerobot import LeRobotDataset
    from model.data.quarantine import read_quarantine
    from model.data.segmentation import segment_episode
    from model.robots import find_robot

    dataset = LeRobotDataset.open(inputs["dataset"])
    robot = find_robot(dataset.info)
    settings = settings_of(robot.id, parameters)
    quarantined = read_quarantine(inputs["verdict"])
    episodes = [episode.index for episode in dataset.episodes if episode.index not in quarantined]
    accepted = accepted_episodes(parameters.reviewed, dataset)
    cut_anew = [episode for episode in episodes if episode not in accepted]
    rows = [row for episode in episodes for row in accepted.get(episode, ())]
    segments: dict[int, tuple[AtomicSegment, ...]] = {}

    def cut() -> Iterator[int]:
        for episode in cut_anew:
            arrays = dataset.arrays(episode)
            segments[episode] = segment_episode(
                arrays.state, arrays.action, dataset.info.fps, robot, arrays.eef_pose, settings=settings
            )
            rows.extend(template_rows(episode, arrays.task, segments[episode]))
            yield episode

    summary: dict[str, Any] = {}
    if parameters.writer == TEMPLATE:
        progress.message(f"cutting {len(cut_anew)} episodes into atomic actions")
        for done, _ in enumerate(cut(), 1):
            progress.update(done, len(cut_anew), segments=len(rows))
    else:
        counts = _write_with_model(dataset, robot, cut(), len(cut_anew), rows, segments, parameters, progress)
        summary = {
            "requests": counts.requests,
            "answers_from_cache": counts.cached,
            "failed_requests": dict(sorted(counts.failures.items())),
            "episodes_failed": len({row["episode"] for row in rows if row["review_state"] == FAILED}),
            "input_tokens": counts.input_tokens,
            "output_tokens": counts.output_tokens,
            "cost": counts.cost(parameters.price_input, parameters.price_output),
        }
        progress.message(spent(summary))
    write_annotations(output, rows)
    return {
        "episodes": len(episodes),
        "segments": len(rows),
        "episodes_without_segments": len(episodes) - len({row["episode"] for row in rows}),
        "episodes_accepted": len([episode for episode in episodes if episode in accepted]),
        "atomic_actions": dict(sorted(Counter(row["atomic_action"] for row in rows).items())),
        "mean_confidence": round(sum(row["confidence"] for row in rows) / max(1, len(rows)), 3),
        **summary,
    }


def spent(summary: Mapping[str, Any]) -> str:
    """What a model's texts took, in words, from the summary of the step."""
    said = f"{summary['requests']:,} requests, {summary['answers_from_cache']:,} answers from earlier ones"
    if summary["failed_requests"]:
        said += f", {sum(summary['failed_requests'].values()):,} failed"
    if summary["episodes_failed"]:
        said += f"; {summary['episodes_failed']:,} episodes got no text"
    said += f"; {summary['input_tokens']:,} tokens read and {summary['output_tokens']:,} written"
    return said + (f", which cost {summary['cost']:g}" if summary["cost"] else "")


def template_rows(episode: int, task: str, segments: Sequence["AtomicSegment"]) -> list[dict[str, Any]]:
    """The rows of an episode, with sentences of `sentences.py`."""
    from components.annotate.sentences import arm_name, sub_task, task_object
    from model.data.annotations import complete

    return [
        complete(
            {
                "episode": episode,
                "start": segment.start,
                "end": segment.end,
                "atomic_action": segment.action,
                "arm": arm_name(segment),
                "task": task,
                "sub_task": sub_task(segment, task),
                "objects": task_object(task).removeprefix("the "),
                "source": TEMPLATE,
                "confidence": segment.confidence,
                "start_confidence": segment.confidences[0],
                "end_confidence": segment.confidences[1],
            }
        )
        for segment in segments
    ]


def accepted_episodes(reviewed: str, dataset: "LeRobotDataset") -> dict[int, list[dict[str, Any]]]:
    """Rows by episode of a reviewed file, of the episodes of which a person has accepted at least one row.

    Such an episode is taken as its reviewer left it: cuts that a later run would set elsewhere could not be told from
    those that were accepted.

    Raises:
        UserError: the file cannot be read, or is of another dataset (an episode is missing or shorter).
    """
    from components.annotate.episodes import check_within
    from model.data.annotations import ACCEPTED, read_annotations

    if not reviewed:
        return {}
    rows = read_annotations(Path(reviewed))
    lengths = {episode.index: episode.length for episode in dataset.episodes}
    check_within(rows, lengths, f"annotate.reviewed is '{reviewed}'")
    accepted = {row["episode"] for row in rows if row["review_state"] == ACCEPTED}
    kept: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        if row["episode"] in accepted:
            kept.setdefault(row["episode"], []).append(row)
    return kept


def _write_with_model(
    dataset: "LeRobotDataset",
    robot: "Robot",
    episodes: Iterable[int],
    total: int,
    rows: list[dict[str, Any]],
    segments: Mapping[int, tuple["AtomicSegment", ...]],
    parameters: Parameters,
    progress: Progress,
) -> "Counts":
    """Puts a model's texts into `rows`; an episode that got none keeps its template and is marked `failed`.

    Args:
        episodes: `total` of them, cut as they are drawn, which fills `rows` and `segments`: the model begins with the
            first while the others are cut.
    """
    from components.annotate.evidence import FrameSettings, episode_questions
    from components.annotate.prompts import Question
    from components.annotate.vocabulary import read_vocabulary
    from components.annotate.writing import open_model, write_texts
    from model.data.annotations import FAILED

    vocabulary = read_vocabulary(parameters.vocabulary)
    shown = FrameSettings(frames=parameters.frames, size=parameters.frame_size)

    def questions_of(episode: int) -> list[Question]:
        if not segments[episode]:
            return []
        arrays = dataset.arrays(episode)
        return episode_questions(dataset, robot, episode, arrays, segments[episode], vocabulary, shown)

    model = open_model(parameters)
    progress.message(f"cutting {total} episodes into atomic actions, {model.name} writes their texts")
    written, counts = write_texts(episodes, total, questions_of, model, parameters, progress)
    of_episode: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        of_episode.setdefault(row["episode"], []).append(row)
    for episode, texts in written.items():
        if texts.reason:
            for row in of_episode[episode]:
                row.update(review_state=FAILED, reason=texts.reason)
            continue
        whole, parts = texts.answers[:1], texts.answers[1:]  # both empty where there is no segment
        for row, part in zip(of_episode.get(episode, ()), parts, strict=True):
            row.update(
                task=whole[0].sentence, sub_task=part.sentence, verb=part.verb, objects=", ".join(part.objects),
                source=model.name,
            )  # fmt: skip
    return counts
