"""Plays a chunk while the next one is computed: real-time chunking, in which the robot never waits for an answer.

With a look at step t and an answer after d steps, the rows that go on meanwhile are told to the endpoint, which answers
with a chunk that repeats the first d of them and goes on from there:

    executed        old[p] .. old[p+d-1]  new[d] .. new[p-1]  new[p] ..
    look            t                     (the answer is there)  t + p
"""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np

from lingbot_client.broker import Policy
from lingbot_client.errors import ContractMismatch

LEFT_OVER = "prev_chunk_left_over"
_REMEMBERED = 10  # answers whose delay the next one is planned by


class RealTimePolicy(Policy, Protocol):
    """`PolicyClient`, or anything else that can go on from a running chunk."""

    @property
    def real_time(self) -> bool: ...


def running_chunk(left: np.ndarray, delay: int) -> dict[str, Any]:
    """What a message says of the chunk that the robot executes meanwhile, in the endpoint's keys.

    Args:
        left: [R, A], robot units: the rows that were not executed at the moment of the observation.
        delay: how many of them will have been executed when the answer arrives; the answer repeats them.
    """
    return {LEFT_OVER: np.asarray(left, np.float32), "inference_delay": delay}


class RealTimeBroker:
    """Gives out one action a call and asks ahead, on a thread of its own; `act` returns at once while rows are left.

    An answer that is late is waited for only when the chunk before is over, and the next ones are asked for with as
    much delay as the slowest of the last ten took. Only the first answer of an episode is waited for in any case.

    Args:
        policy: who is asked; by this broker alone, as long as it is open.
        execute_steps: rows of a chunk between two looks.
        inference_delay: rows that are executed while an answer is computed, at least: its seconds times `control_hz`,
            rounded up.
    """

    def __init__(self, policy: RealTimePolicy, *, execute_steps: int, inference_delay: int = 1) -> None:
        for name, steps in (("execute_steps", execute_steps), ("inference_delay", inference_delay)):
            if steps < 1:
                raise ValueError(f"{name} {steps} must be at least 1")
        self._policy = policy
        self._execute_steps, self._least_delay = execute_steps, inference_delay
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lingbot-broker")
        self._delays: deque[int] = deque(maxlen=_REMEMBERED)
        self._row = 0
        self._asked: Future[tuple[dict[str, Any], int]] | None = None
        self._since = 0  # rows that were given out since the look
        self._switch = 0  # row of the new chunk from which it is played
        self.reply: dict[str, Any] | None = None
        """The reply that is being played."""

    @property
    def delay(self) -> int:
        """Rows that the next answer is expected to take."""
        return max(self._least_delay, *self._delays, 1)

    @property
    def due(self) -> bool:
        """Whether the next `act` asks, and so wants an observation."""
        if self._asked is None:
            return self._row >= self._next_look(self._rows)
        return self._arrived and self._since >= self._next_look(self._rows)

    def act(self, message: Mapping[str, Any] | None) -> np.ndarray:
        """The next action [A].

        Args:
            message: the present observation; it is used only when `due`. Without one the chunk goes on to its end.

        Raises:
            ClientError: as `PolicyClient.infer`. What is left of the chunk stays: the next `act` asks again and goes
                on from it, if `reset` was not called.
            ValueError: the chunk is over and there is no observation, or its rows do not last until the next answer.
        """
        if self._asked is not None and (self._arrived or self._row >= self._rows):
            self._take(self._asked)
        if self._asked is None and message is not None and self._row >= self._next_look(self._rows):
            self._look(message)
        if self.reply is None or self._row >= self._rows:
            raise ValueError("the chunk is played to its end: give an observation (see `due`)")
        action: np.ndarray = self.reply["actions"][self._row]
        self._row += 1
        self._since += 1
        return action

    def reset(self) -> None:
        """Begins an episode; what is left of the chunk is given up, and so is an answer that is under way."""
        if self._asked is not None:
            wait([self._asked])
        self.reply, self._row, self._asked = None, 0, None
        self._policy.reset()

    def close(self) -> None:
        """Waits for an answer that is under way and ends the thread. The policy stays open."""
        self._thread.shutdown()

    def __enter__(self) -> "RealTimeBroker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _rows(self) -> int:
        return 0 if self.reply is None else len(self.reply["actions"])

    @property
    def _arrived(self) -> bool:
        return self._asked is not None and self._asked.done() and self._since >= self._switch

    def _next_look(self, rows: int) -> int:
        """The row of a chunk at which to look: early enough for the answer, whatever the last ones took."""
        return max(0, min(self._execute_steps, rows - self.delay))

    def _look(self, message: Mapping[str, Any]) -> None:
        if self.reply is None or self._row >= self._rows:
            reply = self._policy.infer(message)
            self._check_pace(len(reply["actions"]))
            self.reply, self._row = reply, 0
            return
        if not self._policy.real_time:
            raise ContractMismatch(
                "the endpoint does not say that it does real-time chunking, and would answer with fresh chunks: use "
                "ActionChunkBroker, or serve the policy with `lingbot serve`"
            )
        left: np.ndarray = self.reply["actions"][self._row :]
        self._since, self._switch = 0, min(self.delay, len(left))
        self._asked = self._thread.submit(self._ask, {**message, **running_chunk(left, self._switch)})

    def _ask(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """On the thread. The answer, and how many rows were given out meanwhile."""
        reply = self._policy.infer(message)
        return reply, self._since

    def _take(self, asked: "Future[tuple[dict[str, Any], int]]") -> None:
        """Goes over to the answer, at the row of the present moment. One that is late by more than its own length is
        held at its last row."""
        wait([asked])
        self._asked = None
        reply, delay = asked.result()
        self.reply, self._row = reply, min(self._since, len(reply["actions"]) - 1)
        self._delays.append(delay)

    def _check_pace(self, rows: int) -> None:
        if self._execute_steps + self._least_delay > rows:
            raise ValueError(
                f"a chunk of {rows} steps does not last for execute_steps {self._execute_steps} and an inference_delay "
                f"of {self._least_delay}: lower execute_steps to {rows - self._least_delay} or less"
            )
