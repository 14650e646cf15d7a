"""Making batches in background threads, in order, with the time that training waits for them measured."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from model.errors import UserError

Item = TypeVar("Item")
Batch = TypeVar("Batch")


class Prefetcher(Generic[Item, Batch]):
    """Iterates `make(item)` for each of `items`, at most `depth` batches ahead, in order.

    A batch is a function of its item alone, so resuming is starting `items` later, and the number of threads changes
    nothing but speed. An exception in a thread is raised here, at the batch it belongs to, with a note that names the
    item. Memory: at most `depth` batches are made or being made beside those that were given out; a loop holds the last
    one until it has the next. Use it in a `with` statement, or call `close`.

    Args:
        make: safe to call from `workers` threads at once.
        items: taken in the consumer's thread.
        depth: batches ahead.
        workers: threads. Decoders work off the interpreter's lock: two threads decode on two cores.

    Attributes:
        wait_seconds: time that the consumer has spent waiting for batches so far.
    """

    def __init__(
        self, make: Callable[[Item], Batch], items: Iterable[Item], *, depth: int = 3, workers: int = 1
    ) -> None:
        if not 1 <= workers <= depth:
            raise UserError(
                f"{workers} workers make {depth} batches ahead: use 1 to {depth} workers, or a larger depth."
            )
        self.wait_seconds = 0.0
        self._make = make
        self._items = iter(items)
        self._depth = depth
        self._ahead: deque[tuple[Item, Future[Batch]]] = deque()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._closed = False
        self._fill()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._ahead:
            self.close()
            raise StopIteration
        item, future = self._ahead.popleft()
        began = time.perf_counter()
        try:
            batch = future.result()
        except BaseException as error:
            error.add_note(f"while making the batch of {item!r}")
            self.close()
            raise
        self.wait_seconds += time.perf_counter() - began
        self._fill()
        return batch

    def close(self) -> None:
        """Wait for the batches that are being made; all made ahead are dropped."""
        self._closed = True
        self._ahead.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Prefetcher[Item, Batch]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> None:
        while not self._closed and len(self._ahead) < self._depth:
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._ahead.append((item, self._threads.submit(self._make, item)))
