"""Answers that are kept: read back, asked for anew where the file is damaged, and a folder that fails is named."""

import asyncio
import json
from pathlib import Path

import pytest

from components.annotate.asking import Asker
from components.annotate.cache import AnswerCache
from components.annotate.models import Reply
from components.annotate.prompts import Question, episode_question
from components.annotate.vocabulary import Vocabulary
from model.errors import UserError
from tests.components.annotate.chat_server import valid_answer

QUESTION = episode_question(
    "the whole episode", length=1.0, task="lift", summary="", frames=(), vocabulary=Vocabulary()
)
REPLY = Reply(text=json.dumps(valid_answer("episode")), input_tokens=3, output_tokens=2)


class Answers:
    """A model that gives one reply to everything, and counts."""

    name, concurrency = "qwen3-vl", 2

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, question: Question, complaint: str) -> Reply:
        self.asked += 1
        return REPLY

    async def close(self) -> None:
        pass


def times_asked(folder: Path) -> int:
    model = Answers()
    asyncio.run(Asker(model, AnswerCache(folder), attempts=1).ask(QUESTION))
    return model.asked


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    assert [times_asked(tmp_path), times_asked(tmp_path)] == [1, 0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"{}",
        b"[]",
        b'{"text": 3, "input_tokens": 0, "output_tokens": 0}',
        b'{"text": "{\\"task\\": \\"li", "input_tokens": 0, "output_tokens": 0}',
        b'{"text": "{\\"task\\": \\"lift\\"}", "input_tokens": 0, "output_tokens": 0}',
    ],
)
def test_a_damaged_file_is_asked_for_anew_and_replaced(tmp_path: Path, content: bytes) -> None:
    times_asked(tmp_path)
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(content)
    assert [times_asked(tmp_path), times_asked(tmp_path)] == [1, 0]


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "answers").touch()
    with pytest.raises(UserError, match=r"answers are kept in .*/answers, which fails \(File exists\)"):
        AnswerCache(tmp_path / "answers")


def test_a_folder_that_fails_later_is_named(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    digest = QUESTION.digest("qwen3-vl")
    (tmp_path / digest[:2]).touch()
    with pytest.raises(UserError, match="answers are kept in"):
        cache.put(digest, REPLY)
    with pytest.raises(UserError, match="answers are kept in"):
        cache.get(digest)
