"""The questions to a vision-language model: frames of all views with their times, and what the kinematics tell.

A change of the wording or of what is shown is a change of PROMPT_VERSION: cached answers belong to one version.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.annotate.answers import Kind, answer_schema
from components.annotate.vocabulary import Vocabulary

PROMPT_VERSION = "2"

SYSTEM = (
    "You label demonstrations of robot manipulation for training. You see frames of one recording, from several "
    "cameras at once, in order of time, with the time of each in seconds, and a summary of what the robot's joints "
    "did. Write short imperative English sentences, such as an operator would tell the robot: what is done, to which "
    "object, where, and with which arm if that matters. Name only objects that can be seen. Answer with one JSON "
    "object and nothing else."
)
SEGMENT = (
    "This is one atomic action of the recording: {start:.2f} s to {end:.2f} s of {length:.2f} s. The operator's task "
    "text is: {task!r}.\nWhat the joints did: {summary}\nWrite `sub_task`, the instruction for this action alone; "
    "`verb`, its main verb; and `objects`, the things it handles."
)
EPISODE = (
    "This is a whole recording of {length:.2f} s. The operator's task text is: {task!r}.\n"
    "What the joints did: {summary}\nWrite `task`, one instruction for the whole recording, and `objects`, the things "
    "it handles."
)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture: camera's short name, seconds since the episode's start, and its JPEG."""

    camera: str
    seconds: float
    jpeg: bytes


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question, ready to be asked: `text` and `frames` for the model, `kind` and `vocabulary` for its answer.

    `name` tells a person which: "segment 2" of its episode.
    """

    name: str
    kind: Kind
    text: str
    frames: tuple[Frame, ...]
    vocabulary: Vocabulary

    @property
    def schema(self) -> dict[str, Any]:
        return answer_schema(self.kind, self.vocabulary)

    def digest(self, model: str) -> str:
        """sha256 of all that an answer comes from: prompt version, texts, schema, the frames' bytes, and the model."""
        content = hashlib.sha256()
        facts: list[Any] = [PROMPT_VERSION, model, SYSTEM, self.text, self.kind, self.schema]
        facts += [[frame.camera, frame.seconds, hashlib.sha256(frame.jpeg).hexdigest()] for frame in self.frames]
        content.update(json.dumps(facts, sort_keys=True).encode())
        return content.hexdigest()


def segment_question(
    name: str,
    *,
    start: float,
    end: float,
    length: float,
    task: str,
    summary: str,
    frames: Sequence[Frame],
    vocabulary: Vocabulary,
) -> Question:
    """The question for one segment from `start` to `end` seconds of an episode of `length` seconds."""
    text = SEGMENT.format(start=start, end=end, length=length, task=task, summary=summary)
    return _question(name, "segment", text, frames, vocabulary)


def episode_question(
    name: str, *, length: float, task: str, summary: str, frames: Sequence[Frame], vocabulary: Vocabulary
) -> Question:
    """The question for a whole episode of `length` seconds."""
    return _question(name, "episode", EPISODE.format(length=length, task=task, summary=summary), frames, vocabulary)


def _question(name: str, kind: Kind, text: str, frames: Sequence[Frame], vocabulary: Vocabulary) -> Question:
    words = vocabulary.described()
    whole = f"{text}\n{words}" if words else text
    return Question(name=name, kind=kind, text=whole, frames=tuple(frames), vocabulary=vocabulary)
