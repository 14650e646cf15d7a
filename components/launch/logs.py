"""The log of a pod, line by line, each line once although connections drop, and the last lines of one that failed.

The API's only way to go on where a stream broke is by time: lines are asked for with their stamps, from before the last
one that came, and what was given already is left out. Lines of one stamp are told apart by their count.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiException

from components.adapters.api_calls import brief, once, passing, send
from components.launch.cluster import Cluster
from components.launch.watching import Reader
from model.errors import UserError

_SILENT_SECONDS = 300  # without a line the connection is made anew: it may be dead
_OVERLAP_SECONDS = 600  # by which clocks of this machine and of a node may differ
_TAIL_LINES = 50
_WAITING = (400, 404)  # the container has not started, or the API has not seen the pod


class Cursor:
    """The place in a log up to which lines were given."""

    def __init__(self) -> None:
        self._stamp = ""
        self._given = 0  # lines that carry this stamp
        self._again = 0  # of them, seen since the last reconnection

    def reconnected(self) -> None:
        self._again = 0

    def new(self, stamp: str) -> bool:
        """Whether the next line of the stream, with this stamp, was not given before."""
        if key(stamp) < key(self._stamp):
            return False
        if stamp != self._stamp:
            self._stamp, self._given, self._again = stamp, 1, 1
            return True
        self._again += 1
        if self._again <= self._given:
            return False
        self._given = self._again
        return True

    def since_seconds(self) -> int | None:
        """How far back to ask; None for all, at the beginning."""
        if not self._stamp:
            return None
        last = datetime.fromisoformat(self._stamp[:19]).replace(tzinfo=UTC).timestamp()
        return max(1, math.ceil(time.time() - last)) + _OVERLAP_SECONDS


def key(stamp: str) -> tuple[str, str]:
    """Orders stamps of RFC 3339 in UTC, whose fractions lose their trailing zeros."""
    return stamp[:19], stamp[20:].rstrip("Z").ljust(9, "0")


class PodLog(Reader):
    """Tells every line of one container until the container has ended and all was read.

    A log that cannot be read is said in a last line, and is no failure: a training of days does not end because its
    node's log is away.
    """

    def __init__(self, cluster: Cluster, pod: str, uid: str, tell: Callable[[str, Any], None]) -> None:
        """`tell` gets ("LINE", text), ("READ", pod) when all was read and, as the last, ("FAILED", error)."""
        super().__init__(f"reading the log of pod {pod}", tell, cluster)
        self.pod, self.uid = pod, uid
        self.finished = False  # all was read and told
        self._cluster = cluster
        self._ended = threading.Event()
        self._cursor = Cursor()

    def ended(self) -> None:
        """The container has ended: a reading that begins from now on has all of it."""
        if not self._ended.is_set():
            self._ended.set()
            self._wake.set()

    def _follow(self) -> None:
        try:
            self._read_to_the_end()
        except (UserError, ApiException) as error:
            said = str(error) if isinstance(error, UserError) else brief(error)
            self._tell("LINE", f"(the rest of the log of pod {self.pod} is not read: {said})")
            self._finish()

    def _read_to_the_end(self) -> None:
        while not self._stop.is_set():
            whole = self._ended.is_set()
            if whole and not self._stop.is_set():
                self._wake.clear()
            failure: Exception = ConnectionError("the log has ended")
            try:
                if self._owner() != self.uid or (self._read() and whole):
                    return self._finish()
            except self._service.failures as error:
                waiting = isinstance(error, ApiException) and error.status in _WAITING
                if not passing(error) and not waiting:
                    raise self._service.refusal(error, self._what) from error
                failure = error
            if not self._stop.is_set() and not (self._ended.is_set() and not whole):
                self._backoff.wait(failure, self._what)

    def _finish(self) -> None:
        self.finished = True
        self._tell("READ", self.pod)

    def _owner(self) -> str | None:
        """The uid of the pod that has this name now; the log is asked for by the name alone."""
        try:
            found = once(self._cluster.core.read_namespaced_pod, self.pod, self._cluster.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None
        uid: str = found["metadata"]["uid"]
        return uid

    def _read(self) -> bool:
        """One connection to its end; whether it ended by itself and was this pod's."""
        since = self._cursor.since_seconds()
        self._cursor.reconnected()
        lines = self._stream.lines(
            self._cluster.core.read_namespaced_pod_log,
            self.pod,
            self._cluster.namespace,
            seconds=_SILENT_SECONDS,
            container=self._cluster.kind.container,
            follow=True,
            timestamps=True,
            **({} if since is None else {"since_seconds": since}),
        )
        with contextlib.closing(lines):
            for number, line in enumerate(lines):
                # Asked again now that it is open: another pod may have taken the name a moment before.
                if number == 0 and self._owner() not in (None, self.uid):
                    return False
                self._backoff.reset()
                stamp, _, text = line.decode(errors="replace").partition(" ")
                if self._cursor.new(stamp):
                    self._tell("LINE", text)
        return not self._stop.is_set()


def tail(cluster: Cluster, pod: str, *, previous: bool = False) -> str:
    """The last lines of a pod, `previous` to its container's restart; or why they cannot be read: its node is gone."""
    try:
        response = send(
            cluster.core.read_namespaced_pod_log,
            pod,
            cluster.namespace,
            container=cluster.kind.container,
            previous=previous,
            tail_lines=_TAIL_LINES,
        )
    except cluster.service.failures as error:
        return f"(the log of pod {pod} cannot be read: {brief(error)})"
    text: str = response.data.decode(errors="replace")
    return text.rstrip("\n")
