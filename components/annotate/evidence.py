"""What a model is shown of an episode: frames of every view at a few times, and a summary of the joints in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.annotate.prompts import Frame, Question, episode_question, segment_question
from components.annotate.vocabulary import Vocabulary
from model.data.segmentation import AtomicSegment, robot_arms

if TYPE_CHECKING:
    from model.data.lerobot import EpisodeArrays, LeRobotDataset
    from model.robots import Robot

JPEG_QUALITY = 85  # as photographs are sent; finer than the models' 28-pixel patches can tell apart
CENTIMETRE = 0.01


@dataclass(frozen=True, kw_only=True)
class FrameSettings:
    """How much is shown: `frames` times a question, every camera at each, its longer side at most `size` pixels."""

    frames: int = 4
    size: int = 448


def times_between(start: int, end: int, count: int) -> list[int]:
    """Up to `count` different frames of [start, end), first and last included."""
    return np.unique(np.linspace(start, max(start, end - 1), count).round().astype(int)).tolist()


def episode_questions(
    dataset: "LeRobotDataset",
    robot: "Robot",
    episode: int,
    arrays: "EpisodeArrays",
    segments: Sequence[AtomicSegment],
    vocabulary: Vocabulary,
    settings: FrameSettings,
) -> list[Question]:
    """The questions about an episode: one for the whole of it, then one a segment. Each frame is decoded once.

    Raises:
        UserError: a video cannot be read; episode and camera are named.
    """
    fps = dataset.info.fps
    length = len(arrays.action)
    spans = [(0, length), *((segment.start, segment.end) for segment in segments)]
    shown = [times_between(start, end, settings.frames) for start, end in spans]
    wanted = sorted({frame for frames in shown for frame in frames})
    pictures = {camera: dict(_pictures(dataset, episode, camera, wanted, settings.size)) for camera in dataset.cameras}
    questions = []
    for number, ((start, end), frames) in enumerate(zip(spans, shown, strict=True)):
        views = [
            Frame(camera=camera.rpartition(".")[2], seconds=round(frame / fps, 3), jpeg=pictures[camera][frame])
            for frame in frames
            for camera in dataset.cameras
        ]
        summary = describe_motion(robot, arrays, start, end, fps)
        if number == 0:
            question = episode_question(
                "the whole episode", length=length / fps, task=arrays.task, summary=summary, frames=views,
                vocabulary=vocabulary,
            )  # fmt: skip
        else:
            question = segment_question(
                f"segment {number - 1}", start=start / fps, end=end / fps, length=length / fps,
                task=arrays.task, summary=f"{segments[number - 1].action}: {summary}", frames=views,
                vocabulary=vocabulary,
            )  # fmt: skip
        questions.append(question)
    return questions


def describe_motion(robot: "Robot", arrays: "EpisodeArrays", start: int, end: int, fps: float) -> str:
    """What each arm did from frame `start` to `end` (exclusive), in words: way, height, gripper."""
    last = min(end, len(arrays.action)) - 1
    lines = []
    for arm in robot_arms(robot):
        way = float(np.abs(np.diff(arrays.action[start : last + 1][:, list(arm.joints)], axis=0)).sum())
        parts = [f"{arm.name} arm moved {way:.2f} rad in all joints together over {(last + 1 - start) / fps:.2f} s"]
        if arrays.eef_pose is not None and arm.name in ("left", "right"):
            x, y, z = (arrays.eef_pose[last] - arrays.eef_pose[start])[arm.position] / CENTIMETRE
            parts.append(f"its hand by x {x:+.0f}, y {y:+.0f}, z {z:+.0f} cm")
        opening = arm.opening(robot, arrays.action)
        if opening is not None:
            parts.append(f"its {arm.tool} went from {opening[start]:.0%} to {opening[last]:.0%} open")
        lines.append(", ".join(parts))
    return "; ".join(lines) + "."


def _pictures(
    dataset: "LeRobotDataset", episode: int, camera: str, frames: Sequence[int], size: int
) -> Iterator[tuple[int, bytes]]:
    """Frame number and JPEG of each of `frames`."""
    for number, pixels in zip(frames, dataset.frames(episode, camera, frames), strict=True):
        yield number, _jpeg(pixels, size)


def _jpeg(pixels: np.ndarray, size: int) -> bytes:
    """simplejpeg writes a small picture in a seventh of Pillow's time, and off the interpreter's lock."""
    import simplejpeg

    if max(pixels.shape[:2]) > size:
        from PIL import Image

        picture = Image.fromarray(pixels)
        picture.thumbnail((size, size))
        pixels = np.asarray(picture)
    return simplejpeg.encode_jpeg(pixels, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
