"""Asking: what a model that is gone costs."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from components.annotate.asking import Asker, NoAnswer
from components.annotate.cache import AnswerCache
from components.annotate.models import Reply, Unreachable
from components.annotate.prompts import Question, segment_question
from components.annotate.vocabulary import Vocabulary
from model.errors import UserError
from tests.components.annotate.chat_server import valid_answer


class Leaving:
    """A model that answers so many questions, and is not there any more."""

    name, concurrency = "m", 1

    def __init__(self, answers: int) -> None:
        self._answers = answers

    async def ask(self, question: Question, complaint: str) -> Reply:
        self._answers -= 1
        if self._answers < 0:
            raise Unreachable("http://vlm/v1 cannot be reached")
        return Reply(text=json.dumps(valid_answer("segment")))

    async def close(self) -> None:
        pass


def question(name: str) -> Question:
    return segment_question(name, start=0, end=1, length=1, task="t", summary=name, frames=(), vocabulary=Vocabulary())


def test_a_model_that_never_answered_ends_the_step(tmp_path: Path) -> None:
    asker = Asker(Leaving(0), AnswerCache(tmp_path), attempts=1)
    with pytest.raises(UserError, match=r"^http://vlm/v1 cannot be reached, in 1 attempts: set annotate.endpoint"):
        asyncio.run(asker.ask(question("one")))


def test_a_model_that_is_gone_later_costs_the_questions_that_are_left(tmp_path: Path) -> None:
    """It may come back, and the rest is within the budget of failures."""

    async def ask() -> None:
        asker = Asker(Leaving(1), AnswerCache(tmp_path), attempts=1)
        assert (await asker.ask(question("one"))).verb == "pick up"
        with pytest.raises(NoAnswer, match="two: 1 attempts, the last: http://vlm/v1 cannot be reached"):
            await asker.ask(question("two"))

    asyncio.run(ask())


def test_what_was_paid_for_is_kept_before_the_next_is_asked(tmp_path: Path) -> None:
    """A kill loses what is under way at most, however slow the disk is."""
    again = threading.Event()

    class Model(Leaving):
        async def ask(self, question: Question, complaint: str) -> Reply:
            reply = await super().ask(question, complaint)
            if self._answers == 0:
                again.set()
            return reply

    class SlowDisk(AnswerCache):
        kept: list[bool] = []

        def put(self, digest: str, reply: Reply) -> None:
            self.kept.append(again.wait(0.3))

    asyncio.run(Asker(Model(2), SlowDisk(tmp_path), attempts=1).ask_all([question("one"), question("two")]))
    assert SlowDisk.kept == [False, True]
