"""Making batches in a background thread, with the time that training waits for them measured."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")

STOP_POLL_SECONDS = 0.05  # how soon the thread notices that nobody wants more


class _End:
    """Marks the end of the batches, with what went wrong if something did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Prefetcher(Generic[Item, Batch]):
    """Iterates `make(item)` for each of `items`, at most `depth` batches ahead, in order.

    A batch is a function of its item alone, so resuming is starting `items` later. An exception in the thread is raised
    here, at the batch it belongs to, with a note that names the item. Use it in a `with` statement, or call `close`.

    Attributes:
        wait_seconds: time that the consumer has spent waiting for batches so far.
    """

    def __init__(self, make: Callable[[Item], Batch], items: Iterable[Item], *, depth: int = 3) -> None:
        assert depth >= 1
        self.wait_seconds = 0.0
        self._make = make
        self._items = items
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise StopIteration
        began = time.perf_counter()
        batch = self._queue.get()
        self.wait_seconds += time.perf_counter() - began
        if isinstance(batch, _End):
            self.close()
            if batch.error is not None:
                raise batch.error
            raise StopIteration
        return batch

    def close(self) -> None:
        """Stop the thread and wait for it; the batches made ahead are dropped."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> "Prefetcher[Item, Batch]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _produce(self) -> None:
        end = _End()
        item: Item | None = None
        try:
            for item in self._items:
                if not self._put(self._make(item)):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            error.add_note(f"while making the batch of {item!r}")
            end = _End(error)
        self._put(end)

    def _put(self, value: Any) -> bool:
        """Hand over one value; False when the consumer has stopped."""
        while not self._stop.is_set():
            try:
                self._queue.put(value, timeout=STOP_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
