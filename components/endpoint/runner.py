"""The model on a thread of its own.

One thread, because two calls at once would share the same cores and both be late; a thread of its own, because a call
on the event loop would stall the probes and every other robot's socket (PLATFORM_FACTS 4). What is called next is
`batching.Batcher`'s decision.

A plain thread and queue: an executor's futures and locks would cost a robot 0.05 ms a call.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.allocator import keep_freed_memory


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call returned, or what it raised, and how long it took."""

    value: Any = None
    error: BaseException | None = None
    seconds: float


_Call = tuple[Callable[[], Any], Callable[[Outcome], object]]


class ModelRunner:
    """Runs one call at a time, in the order of `start`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._closed = False
        self._started_at: float | None = None

    def running_seconds(self) -> float:
        """How long the present call has been running; 0 when idle. What `/livez` asks."""
        started_at = self._started_at
        return 0.0 if started_at is None else time.monotonic() - started_at

    def start(self, call: Callable[[], Any], done: Callable[[Outcome], object]) -> None:
        """`call()` on the model's thread, then `done` with what came of it, there too."""
        if self._closed:
            raise RuntimeError("the model's thread has ended: nothing can be started any more")
        if self._thread.ident is None:
            self._thread.start()
        self._calls.put((call, done))

    def close(self) -> None:
        """Waits for what was started."""
        self._closed = True
        if self._thread.ident is not None:
            self._calls.put(None)
            self._thread.join()

    def _run(self) -> None:
        keep_freed_memory()
        while (item := self._calls.get()) is not None:
            call, done = item
            done(self._measured(call))
            del item, call, done  # nothing of a request is held while the next one is waited for

    def _measured(self, call: Callable[[], Any]) -> Outcome:
        started = self._started_at = time.monotonic()
        try:
            return Outcome(value=call(), seconds=time.monotonic() - started)
        except BaseException as error:  # noqa: BLE001  who waits for it raises it
            return Outcome(error=error, seconds=time.monotonic() - started)
        finally:
            self._started_at = None
