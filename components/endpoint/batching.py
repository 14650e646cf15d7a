"""Micro-batches across robots: while the model answers one batch, what arrives gathers into the next.

The model is never left idle to wait for company: with nothing running, a request starts at once, alone. A batch is what
has waited longest and whatever may go with it (the same version, the same real-time offsets), in the order of arrival,
so nobody starves. It stays small enough for the deadline of each in it, as far as calls so far tell what one takes.

Dropped before the model is asked: what has passed its deadline, what its robot has superseded by a newer observation,
and what nobody waits for any more.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from components.endpoint.call_cost import CallCost
from components.endpoint.errors import BadObservation, Expired, Superseded, TooMany, Unavailable
from components.endpoint.metrics import Metrics
from components.endpoint.observations import Request
from components.endpoint.realtime import RunningChunk
from components.endpoint.runner import ModelRunner, Outcome
from components.endpoint.served import Served
from components.endpoint.sessions import Session
from model.errors import UserError

_IDLE_LIMIT = 2
_PATIENCE_SECONDS = 2.0  # then a shadow's call goes before the robots': under steady load it would never be compared
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Chunks f32 [N,T,A], in robot units, as the policy gave them."""

    actions: np.ndarray
    queue_seconds: float
    model_seconds: float
    batch: int  # observations in the call


@dataclass(kw_only=True, eq=False)
class Work:
    """The observations of one message, for one version. `deadline` and `arrived` are of `time.monotonic`."""

    served: Served
    requests: list[Request]
    seeds: list[int]
    session: Session
    arrived: float
    deadline: float = math.inf
    running: RunningChunk | None = None
    alone: bool = False
    future: "asyncio.Future[Answered]" = field(init=False)
    timer: asyncio.TimerHandle | None = None
    started: float = 0.0  # when its call began

    @property
    def group(self) -> Hashable:
        """Works of one group may go through the model together."""
        if self.alone:
            return id(self)
        return id(self.served), None if self.running is None else self.running.group


@dataclass(kw_only=True, eq=False)
class _Job:
    """A call that is no robot's: a new version's self-test, a shadow's answer. It runs alone."""

    call: Callable[[], Any]
    future: "asyncio.Future[Any]"
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue before the model. Everything but the model's call happens on the event loop."""

    def __init__(
        self,
        runner: ModelRunner,
        metrics: Metrics,
        *,
        max_batch: int = 16,
        queue_limit: int = 64,
        client_limit: int = 16,
    ) -> None:
        self._runner, self._metrics = runner, metrics
        self._max_batch, self._queue_limit, self._client_limit = max_batch, queue_limit, client_limit
        self._waiting: deque[Work | _Job] = deque()
        self._idle: deque[_Job] = deque()
        self._running: list[Work] | _Job | None = None
        self._by_client: Counter[str] = Counter()
        self._cost = CallCost()
        self._busy_until = 0.0  # when the running call should end

    @property
    def pending(self) -> int:
        """Requests that wait or are in the model."""
        in_model = len(self._running) if isinstance(self._running, list) else 0
        return sum(isinstance(item, Work) for item in self._waiting) + in_model

    @property
    def full(self) -> bool:
        return self.pending >= self._queue_limit

    async def submit(self, work: Work) -> Answered:
        """The answer to one message's observations: `enter`, the wait, and `leave`.

        Raises:
            What `enter` raises, and what `work.future` may hold.
        """
        self.enter(work)
        try:
            return await work.future
        finally:
            self.leave(work)

    def enter(self, work: Work) -> None:
        """Puts one message's observations on their way to the model: `work.future` will hold their `Answered`, or
        Expired or Superseded when they were dropped, or whatever the model raises.

        Raises:
            BadObservation: more observations than go through the model together.
            Unavailable: the queue is full, or would not get to it before its deadline; with a time to come back.
            TooMany: this client has enough waiting.
        """
        loop = asyncio.get_running_loop()
        if len(work.requests) > self._max_batch:
            raise BadObservation(
                f"a batch of {len(work.requests)} observations: here at most {self._max_batch} go through the model "
                "together, send fewer"
            )
        self._supersede(work.session)
        now = time.monotonic()
        self._admit(work, now)
        work.future = loop.create_future()
        if work.deadline < math.inf:
            work.timer = loop.call_later(work.deadline - now, self._expire, work)
        self._waiting.append(work)
        self._by_client[work.session.client] += 1
        self._dispatch()
        self._metrics.set("queue_depth", self.pending)

    def leave(self, work: Work) -> None:
        """After its answer, or when nobody waits for it any more: then the model is not asked, if it was not yet."""
        client = work.session.client
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if work.timer is not None:
            work.timer.cancel()
        if work in self._waiting:
            self._waiting.remove(work)
        if not work.future.cancel() and not work.future.cancelled():
            work.future.exception()  # seen, though perhaps by nobody

    async def alone(self, call: Callable[[], Result]) -> Result:
        """The result of `call()` from the model's thread, between two batches."""
        job = _Job(call=call, future=asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._dispatch()
        return await job.future

    def when_idle(self, call: Callable[[], Result]) -> "asyncio.Future[Result] | None":
        """A call that runs while no robot waits, or once it has waited for 2 s itself: a shadow's. None when enough of
        them wait already."""
        if len(self._idle) >= _IDLE_LIMIT:
            return None
        job = _Job(call=call, future=asyncio.get_running_loop().create_future())
        self._idle.append(job)
        self._dispatch()
        return job.future

    def _admit(self, work: Work, now: float) -> None:
        if self.full:
            wait = self._seconds_ahead(now)
            raise Unavailable(
                f"{self.pending} requests wait for the model already: ask again in {_whole(wait)} s",
                retry_after=_whole(wait),
            )
        if self._by_client[work.session.client] >= self._client_limit:
            wait = self._seconds_ahead(now)
            raise TooMany(
                f"{self._client_limit} requests of this client wait already: ask again in {_whole(wait)} s",
                retry_after=_whole(wait),
            )
        # With nobody waiting a request is always tried: what calls take is learned from calls alone.
        if self._waiting:
            wait = self._seconds_ahead(now, len(work.requests))
            if now + wait > work.deadline:
                raise Unavailable(
                    f"the answer would take {wait:.2f} s, longer than its deadline of "
                    f"{work.deadline - now:.2f} s: ask again in {_whole(wait)} s",
                    retry_after=_whole(wait),
                )

    def _seconds_ahead(self, now: float, more: int = 0) -> float:
        """How long the present call, what waits and `more` observations should take."""
        waiting = more + sum(len(item.requests) for item in self._waiting if isinstance(item, Work))
        full, rest = divmod(waiting, self._max_batch)
        seconds = full * self._cost.seconds(self._max_batch) + (self._cost.seconds(rest) if rest else 0.0)
        return seconds + (max(0.0, self._busy_until - now) if self._running is not None else 0.0)

    def _supersede(self, session: Session) -> None:
        for item in list(self._waiting):
            if isinstance(item, Work) and item.session is session:
                sentence = "superseded: this robot sent a newer observation before the model was asked about this one"
                self._drop(item, "superseded", Superseded(sentence))

    def _expire(self, work: Work) -> None:
        if work in self._waiting:
            sentence = "the deadline passed before the model was free: ask again with a new observation"
            self._drop(work, "expired", Expired(sentence, retry_after=1))

    def _drop(self, work: Work, reason: str, refusal: Exception) -> None:
        self._waiting.remove(work)
        if not work.future.done():
            work.future.set_exception(refusal)
            self._metrics.count("dropped", version=work.served.model_version, reason=reason)

    def _dispatch(self) -> None:
        """Starts the next call when the model is free."""
        if self._running is not None:
            return
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()  # nobody waits for it any more
        patient = not self._idle or time.monotonic() - self._idle[0].since < _PATIENCE_SECONDS
        if self._waiting and patient:
            head = self._waiting[0]
            if isinstance(head, _Job):
                self._waiting.popleft()
                self._start(head, head.call)
            else:
                self._start_batch(self._next_batch(head))
        elif self._idle:
            job = self._idle.popleft()
            self._start(job, job.call)

    def _next_batch(self, head: Work) -> list[Work]:
        """The head and what may go with it: as much as fits, and as does not make the earliest deadline late."""
        now = time.monotonic()
        batch, size, deadline = [head], len(head.requests), head.deadline
        for item in list(self._waiting)[1:]:
            if isinstance(item, _Job) or item.future.done() or item.group != head.group:
                continue
            grown, earliest = size + len(item.requests), min(deadline, item.deadline)
            in_time, in_time_without = (now + self._cost.seconds(n) <= earliest for n in (grown, size))
            if grown > self._max_batch or (in_time_without and not in_time):
                break
            batch.append(item)
            size, deadline = grown, earliest
        return batch

    def _start_batch(self, batch: list[Work]) -> None:
        now = time.monotonic()
        for work in batch:
            self._waiting.remove(work)
            work.started = now
            if work.timer is not None:
                work.timer.cancel()
        self._start(batch, partial(_infer_batch, batch))
        self._busy_until = now + self._cost.seconds(sum(len(work.requests) for work in batch))

    def _start(self, what: "list[Work] | _Job", call: Callable[[], Any]) -> None:
        loop = asyncio.get_running_loop()
        self._running, self._busy_until = what, 0.0
        self._runner.start(call, lambda outcome: loop.call_soon_threadsafe(self._finished, what, outcome))

    def _finished(self, what: "list[Work] | _Job", outcome: Outcome) -> None:
        """On the loop again. The next call starts first, so that the model does not wait while replies are sent."""
        self._running = None
        if isinstance(what, list) and len(what) > 1 and outcome.error is not None:
            # One by one: an observation that breaks the model harms nobody else.
            for work in reversed(what):
                work.alone = True
                self._waiting.appendleft(work)
            self._dispatch()
            return
        self._dispatch()
        if isinstance(what, _Job):
            _settle(what.future, outcome)
        elif outcome.error is not None:
            _settle(what[0].future, outcome)
        else:
            self._hand_out(what, outcome)
        self._metrics.set("queue_depth", self.pending)

    def _hand_out(self, batch: list[Work], outcome: Outcome) -> None:
        size, first = sum(len(work.requests) for work in batch), 0
        for work in batch:
            mine = outcome.value[first : first + len(work.requests)]
            first += len(work.requests)
            if not work.future.done():
                work.future.set_result(
                    Answered(
                        actions=mine,
                        queue_seconds=work.started - work.arrived,
                        model_seconds=outcome.seconds,
                        batch=size,
                    )
                )
        # After those who waited, who go on first: their replies do not wait for the counting.
        asyncio.get_running_loop().call_soon(self._count, batch, size, outcome.seconds)

    def _count(self, batch: list[Work], size: int, seconds: float) -> None:
        version = batch[0].served.model_version
        self._cost.saw(size, seconds)
        self._metrics.observe("batch_size", size, version=version)
        self._metrics.observe("stage_seconds", seconds, version=version, stage="model")
        for work in batch:
            self._metrics.observe("stage_seconds", work.started - work.arrived, version=version, stage="queue")


def _settle(waiting: "asyncio.Future[Any]", outcome: Outcome) -> None:
    """Hands a call's result or exception to who waits for it, if anybody still does."""
    if waiting.done():
        return
    if outcome.error is not None:
        waiting.set_exception(outcome.error)
    else:
        waiting.set_result(outcome.value)


def infer(
    served: Served, requests: Sequence[Request], seeds: Sequence[int], running: Sequence[RunningChunk] = ()
) -> np.ndarray:
    """Chunks f32 [N,T,A] of one version, on the model's thread. `running`: of each request, of one group, or none.

    Raises:
        BadObservation: what the bundle itself refuses.
    """
    from model.inference import Observation, Running

    observations = [Observation(images=one.images, state=one.state, task=one.task) for one in requests]
    try:
        if not running:
            return served.bundle.infer(observations, seeds=seeds)
        chunks = Running(
            actions=np.stack([chunk.actions for chunk in running]),
            inference_delay=running[0].delay,
            execution_horizon=running[0].free,
        )
        return served.bundle.infer(observations, seeds=seeds, running=chunks)
    except UserError as error:
        raise BadObservation(str(error)) from error


def _infer_batch(batch: list[Work]) -> np.ndarray:
    return infer(
        batch[0].served,
        [request for work in batch for request in work.requests],
        [seed for work in batch for seed in work.seeds],
        [work.running for work in batch if work.running is not None],
    )


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
