"""Asks a model many questions: several at once, again after what passes, never one whose answer is kept."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from components.annotate.answers import Answer, BadAnswer, read_answer
from components.annotate.cache import AnswerCache
from components.annotate.models import Model, Passing, Reply, Unreachable
from components.annotate.prompts import Question
from model.errors import UserError

FIRST_PAUSE = 0.25  # seconds before the second attempt; doubled each time after
LONGEST_PAUSE = 30.0
LONGEST_RETRY_AFTER = 300.0  # a server that asks for more is treated as one that does not answer


@dataclass(kw_only=True)
class Counts:
    """What asking took: requests sent, answers from the cache, attempts by why they failed, and tokens."""

    requests: int = 0
    cached: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0

    def failed(self, kind: str) -> None:
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def cost(self, price_input: float, price_output: float) -> float:
        """Money, at prices a million tokens."""
        return round((self.input_tokens * price_input + self.output_tokens * price_output) / 1e6, 4)

    def spent(self, reply: Reply) -> None:
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens


class NoAnswer(Exception):
    """A question that got no valid answer in the attempts allowed; the message says what the last one was like."""


class Asker:
    """Asks through a model, keeps what it answers.

    Args:
        attempts: at most so many a question.
        cache: of valid answers.
    """

    def __init__(self, model: Model, cache: AnswerCache, *, attempts: int) -> None:
        self.counts = Counts()
        self._model = model
        self._cache = cache
        self._attempts = attempts
        self._reached = False
        self._free = asyncio.Semaphore(model.concurrency)

    async def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question.

        Raises:
            NoAnswer: one has none. The others are asked all the same, and kept.
            UserError: the model cannot answer anything.
        """
        answers = await asyncio.gather(*(self.ask(question) for question in questions), return_exceptions=True)
        for wanted in (lambda one: not isinstance(one, NoAnswer), lambda one: True):
            for answer in answers:
                if isinstance(answer, BaseException) and wanted(answer):
                    raise answer
        return [answer for answer in answers if isinstance(answer, Answer)]

    async def ask(self, question: Question) -> Answer:
        """The answer to one question, from the cache or from the model.

        Raises:
            NoAnswer: every attempt failed.
            UserError: the model cannot answer anything.
        """
        digest = question.digest(self._model.name)
        kept = self._kept(digest, question)
        if kept is not None:
            self.counts.cached += 1
            return kept
        complaint = ""
        for attempt in range(self._attempts):
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                async with self._free:  # given back while this question waits for its next attempt
                    self.counts.requests += 1
                    reply = await self._model.ask(question, complaint)
                    self._reached = True
                    self.counts.spent(reply)
                    answer = read_answer(reply.text, question.kind, question.vocabulary)
                    # Before the next is asked: a slow disk must not leave more to lose than what is asked at once.
                    await asyncio.to_thread(self._cache.put, digest, reply)
                return answer
            except BadAnswer as error:
                self.counts.failed("invalid answer")
                complaint, last, pause = str(error), str(error), 0.0
            except Passing as error:
                self.counts.failed(str(error))
                last = str(error)
                self._reached = self._reached or not isinstance(error, Unreachable)
                if error.retry_after is not None:
                    if error.retry_after > LONGEST_RETRY_AFTER:
                        raise NoAnswer(
                            f"{question.name}: {last}, and asks to wait {error.retry_after:.0f} s"
                        ) from error
                    pause = max(pause, error.retry_after)
            if attempt + 1 < self._attempts:
                await asyncio.sleep(pause)
        if not self._reached:  # every other question would wait as long for the same
            raise UserError(
                f"{last}, in {self._attempts} attempts: set annotate.endpoint to where the model is served, and run "
                "again when it answers."
            )
        raise NoAnswer(f"{question.name}: {self._attempts} attempts, the last: {last}")

    def _kept(self, digest: str, question: Question) -> Answer | None:
        reply = self._cache.get(digest)
        if reply is None:
            return None
        try:
            return read_answer(reply.text, question.kind, question.vocabulary)
        except BadAnswer:  # only valid ones are kept: the file was changed since, and is asked for anew
            return None
