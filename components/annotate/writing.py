"""Texts of a model for episodes that are cut: questions prepared ahead and asked together, failures in a budget."""

import asyncio
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.annotate.answers import Answer
from components.annotate.asking import Asker, Counts, NoAnswer
from components.annotate.cache import AnswerCache, cache_folder
from components.annotate.models import Model
from components.annotate.parameters import Parameters
from components.annotate.prompts import Question
from model.errors import UserError
from model.progress import Progress

WEIGHTS = (".safetensors", ".bin")
DECODERS = 2  # threads that read frames; decoding holds no lock of the interpreter


@dataclass(frozen=True, kw_only=True)
class Written:
    """The texts of one episode, the whole of it first, then one a segment; or why there are none."""

    episode: int
    answers: tuple[Answer, ...] = ()
    reason: str = ""


def open_model(parameters: Parameters) -> Model:
    """The model that the parameters name.

    Raises:
        UserError: a local model that cannot be loaded, or a key that cannot be sent.
    """
    if parameters.writer == "endpoint":
        from components.annotate.chat_endpoint import ChatEndpoint

        return ChatEndpoint(
            parameters.endpoint,
            parameters.model,
            key=read_key(parameters.api_key_variable),
            concurrency=parameters.concurrency,
            timeout_seconds=parameters.timeout_seconds,
        )
    from components.annotate.local_model import LocalModel

    content = hashlib.sha256()
    for file in sorted(file for file in Path(parameters.checkpoint).glob("*") if file.suffix in WEIGHTS):
        with file.open("rb") as weights:
            content.update(hashlib.file_digest(weights, "sha256").digest())
    return LocalModel(parameters.checkpoint, f"{Path(parameters.checkpoint).name}@{content.hexdigest()[:12]}")


def read_key(variable: str) -> str:
    """The key in an environment variable, without the line break that comes along from a file; "" when there is none.

    Raises:
        UserError: it has a character that an HTTP header cannot carry. The key itself is not shown.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        bad = next(at for at, letter in enumerate(key) if not (letter.isascii() and letter.isprintable()))
        raise UserError(
            f"the key in the environment variable {variable} has at place {bad + 1} of {len(key)} a character that no "
            "HTTP header carries: set it to the key alone, printable ASCII."
        )
    return key


def write_texts(
    episodes: Iterable[int],
    total: int,
    questions_of: Callable[[int], list[Question]],
    model: Model,
    parameters: Parameters,
    progress: Progress,
) -> tuple[dict[int, Written], Counts]:
    """Texts of every episode, by episode, and what they took.

    Args:
        episodes: `total` of them. They are drawn beside the asking, on threads, one at a time, and ahead of it.
        questions_of: the questions of an episode; raises UserError where its frames cannot be read.

    Raises:
        UserError: more episodes failed than `failed_share` allows (each named with its reason), or the model cannot
            answer anything. Answers so far are kept: the next run asks for the rest.
    """
    return asyncio.run(_Writing(model, parameters, progress, total).write(iter(episodes), questions_of))


class _Writing:
    def __init__(self, model: Model, parameters: Parameters, progress: Progress, total: int) -> None:
        self._model = model
        self._parameters = parameters
        self._progress = progress
        self._total = total
        self._asker = Asker(model, AnswerCache(cache_folder()), attempts=parameters.attempts)
        self._written: dict[int, Written] = {}
        # An episode has two questions at the least: so many at once keep the model busy, and few pictures in memory.
        self._at_once = max(2, model.concurrency // 2)

    async def write(
        self, episodes: Iterator[int], questions_of: Callable[[int], list[Question]]
    ) -> tuple[dict[int, Written], Counts]:
        drawn: asyncio.Queue[int | None] = asyncio.Queue()
        try:
            with ThreadPoolExecutor(DECODERS, thread_name_prefix="frames") as threads:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._draw(episodes, drawn, threads))
                    for _ in range(self._at_once):
                        group.create_task(self._work(drawn, questions_of, threads))
        except ExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            await self._model.close()
        return self._written, self._asker.counts

    async def _draw(
        self, episodes: Iterator[int], drawn: asyncio.Queue[int | None], threads: ThreadPoolExecutor
    ) -> None:
        """Draws on, however far the asking is: what is wrong with an episode's table is said before most are paid."""
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            episode = await loop.run_in_executor(threads, next, episodes, None)
            if episode is None:
                break
            drawn.put_nowait(episode)
            if number == self._at_once:
                loop.run_in_executor(threads, _import_ahead)
        for _ in range(self._at_once):
            drawn.put_nowait(None)

    async def _work(
        self,
        drawn: asyncio.Queue[int | None],
        questions_of: Callable[[int], list[Question]],
        threads: ThreadPoolExecutor,
    ) -> None:
        while (episode := await drawn.get()) is not None:
            try:
                questions = await asyncio.get_running_loop().run_in_executor(threads, questions_of, episode)
            except UserError as error:
                self._done(Written(episode=episode, reason=str(error)))
                continue
            try:
                answers = await self._asker.ask_all(questions)
            except NoAnswer as error:
                self._done(Written(episode=episode, reason=str(error)))
            else:
                self._done(Written(episode=episode, answers=tuple(answers)))

    def _done(self, written: Written) -> None:
        self._written[written.episode] = written
        counts = self._asker.counts
        self._progress.update(len(self._written), self._total, requests=counts.requests, from_cache=counts.cached)
        failed = [one for one in self._written.values() if one.reason]
        if not written.reason:
            return
        self._progress.message(f"episode {written.episode} gets no text: {written.reason}")
        if len(failed) > self._parameters.failed_share * self._total:
            named = "; ".join(
                f"episode {one.episode}: {one.reason}" for one in sorted(failed, key=lambda one: one.episode)
            )
            raise UserError(
                f"{len(failed)} of {self._total} episodes got no text, more than annotate.failed_share "
                f"{self._parameters.failed_share:g} allows ({named}): mend the cause and run again, what was answered "
                "is kept."
            )


def _import_ahead() -> None:
    """Half a second of imports that reading the first answer and writing the table need: while the model answers."""
    import jsonschema  # noqa: F401
    import pyarrow

    pyarrow.array([0])  # pyarrow looks for pandas at the first Python value


def _first(errors: ExceptionGroup) -> BaseException:
    """The exception that ended the work; the tasks beside it were cancelled."""
    found: BaseException = errors
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
