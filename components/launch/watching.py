"""A view of objects of a Kubernetes API that stays true over a bad network.

A view lists once and then watches from the version of the list; a dropped watch goes on from the last version it saw,
bookmarks included, and 410 (that version is forgotten) lists again.
"""

import contextlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from typing import Any

import urllib3
from kubernetes.client import ApiException

from components.adapters.api_calls import Backoff, Caller, Object, once, passing, send
from model.errors import UserError

_WATCH_SECONDS = 60  # the server ends a watch after so long; a connection that is dead is noticed soon after
_LATE_SECONDS = 30


class Stream:
    """A response that is read line by line in one thread and may be ended from another."""

    def __init__(self, stop: threading.Event, backoff: Backoff) -> None:
        self._stop, self._backoff = stop, backoff
        self._lock = threading.Lock()
        self._response: urllib3.HTTPResponse | None = None

    def lines(
        self, call: Callable[..., Any], *arguments: Any, seconds: float, **options: Any
    ) -> Generator[bytes, None, None]:
        """Lines of a streamed answer; `seconds` without a byte are a dead connection."""
        response = send(call, *arguments, seconds=seconds, **options)
        self._backoff.connected()
        with self._lock:
            self._response = response
        rest = b""
        try:
            while not self._stop.is_set():
                # What has come, and not a whole buffer: a line is passed on when it is there.
                part = response.read1()
                if not part:
                    break
                *whole, rest = (rest + part).split(b"\n")
                yield from whole
            if rest and not self._stop.is_set():
                yield rest
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            if not self._stop.is_set():  # after `end` a read fails in one way or another
                raise
        finally:
            with self._lock:
                self._response = None
                response.close()
                response.release_conn()
            self._backoff.disconnected()

    def end(self) -> None:
        """Wakes the reader. Call it after the event is set."""
        with self._lock:
            if self._response is not None:
                # Errors: the answer has come to its end in this moment, and its connection is in use no more.
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    self._response.shutdown()


class Reader(ABC):
    """A thread that reads streams of one call and tells what comes; as the last ("FAILED", error), if it fails."""

    def __init__(self, what: str, tell: Callable[[str, Any], None], caller: Caller) -> None:
        """`what` it does, in errors."""
        self._what, self._tell, self._service = what, tell, caller.service
        self._stop = threading.Event()
        self._wake = threading.Event()  # ends a pause
        self._backoff = caller.backoff(self._wake)
        self._stream = Stream(self._stop, self._backoff)
        self._thread = threading.Thread(target=self._run, daemon=True, name=what)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        self._stream.end()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:
            self._tell("FAILED", error)
            if not isinstance(error, (UserError, ApiException)):
                raise

    @abstractmethod
    def _follow(self) -> None:
        """Reads until there is nothing more, or `_stop` is set."""


class View(Reader):
    """Tells every change of some objects, and of all of them again when the history was lost."""

    def __init__(
        self,
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        tell: Callable[[str, Any], None],
        what: str,
        caller: Caller,
    ) -> None:
        """`tell` gets ("LISTED", objects), (ADDED, MODIFIED or DELETED, object) and, as the last, ("FAILED", error)."""
        super().__init__(what, tell, caller)
        self._call, self._arguments, self._options = call, arguments, options

    def _follow(self) -> None:
        version: str | None = None
        while not self._stop.is_set():
            failure: Exception = ConnectionError("the watch has ended")
            try:
                if version is None:
                    version = self._list()
                for kind, found in self._watch(version):
                    self._backoff.reset()
                    version = found["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        self._tell(kind, found)
            except self._service.failures as error:  # of JSON: the rest of a line that was cut
                if isinstance(error, ApiException) and error.status == 410:
                    version = None
                elif not passing(error):
                    raise self._service.refusal(error, self._what) from error
                failure = error
            if not self._stop.is_set():
                self._backoff.wait(failure, self._what)

    def _list(self) -> str:
        listed = once(self._call, *self._arguments, **self._options)
        self._tell("LISTED", listed["items"])
        version: str = listed["metadata"]["resourceVersion"]
        return version

    def _watch(self, version: str) -> Iterator[tuple[str, Object]]:
        options = {"watch": True, "resource_version": version, "timeout_seconds": _WATCH_SECONDS}
        lines = self._stream.lines(
            self._call,
            *self._arguments,
            seconds=_WATCH_SECONDS + _LATE_SECONDS,
            allow_watch_bookmarks=True,
            **self._options,
            **options,
        )
        for line in lines:
            event = json.loads(line)
            if event["type"] == "ERROR":
                said = event["object"]
                raise ApiException(status=said["code"], reason=f"{said['reason']}: {said['message']}")
            yield event["type"], event["object"]
