"""The model on a thread of its own.

One thread, because two calls at once would share the same cores and both be late; a thread of its own, because a call
on the event loop would stall the probes and every other robot's socket (PLATFORM_FACTS 4). What is called next is
`batching.Batcher`'s decision.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from model.allocator import keep_freed_memory

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Timed(Generic[Result]):
    value: Result
    seconds: float


class ModelRunner:
    """Runs one call at a time, in the order of `start`."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model", initializer=keep_freed_memory)
        self._started_at: float | None = None

    def running_seconds(self) -> float:
        """How long the present call has been running; 0 when idle. What `/livez` asks."""
        started_at = self._started_at
        return 0.0 if started_at is None else time.monotonic() - started_at

    def start(self, call: Callable[[], Result]) -> "Future[Timed[Result]]":
        """`call()` on the model's thread. The future holds its result, or what it raised."""
        return self._executor.submit(self._measured, call)

    def close(self) -> None:
        """Waits for the present call; what has not started is cancelled."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _measured(self, call: Callable[[], Result]) -> Timed[Result]:
        self._started_at = time.monotonic()
        started = time.perf_counter()
        try:
            value = call()
        finally:
            self._started_at = None
        return Timed(value=value, seconds=time.perf_counter() - started)
