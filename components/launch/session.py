"""Following one job: two views and a log, each read by a thread, told in one place, the caller's thread."""

import contextlib
import queue
import time
from collections.abc import Callable
from typing import Any

from components.launch.cluster import Cluster
from components.launch.following import Followed, Verdict
from components.launch.logs import PodLog
from components.launch.watching import View

_TICK_SECONDS = 1.0


class Session:
    """A context: its threads and connections end with it, however it is left."""

    def __init__(self, cluster: Cluster, name: str, followed: Followed, on_line: Callable[[str], None]) -> None:
        self._cluster, self._name, self._followed, self._on_line = cluster, name, followed, on_line
        self._events: queue.SimpleQueue[tuple[str, str, Any]] = queue.SimpleQueue()
        self._threads = contextlib.ExitStack()
        self._log: PodLog | None = None
        self._log_uid = ""

    def __enter__(self) -> "Session":
        core, custom = self._cluster.core, self._cluster.custom
        job = {"field_selector": f"metadata.name={self._name}"}
        pods = {"label_selector": self._cluster.kind.selector(self._name)}
        self._view("job", custom.list_namespaced_custom_object, self._cluster.place, job)
        self._view("pods", core.list_namespaced_pod, (self._cluster.namespace,), pods)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.close()

    def verdict(self) -> Verdict:
        """Follows the job to its end, and its log to the last line."""
        tick = min(_TICK_SECONDS, self._cluster.patience.settle / 4)
        while True:
            self._take(tick)
            verdict = self._followed.verdict(time.monotonic())
            if verdict is not None and (verdict.endings or verdict.kind in ("failed", "succeeded")):
                self._look_again()
                verdict = self._followed.verdict(time.monotonic())
            self._follow_log()
            if verdict is not None:
                self._finish_log(verdict)
                return verdict

    def _view(self, source: str, call: Callable[..., Any], place: tuple[str, ...], options: dict[str, Any]) -> None:
        what = f"watching the {source} of {self._name}"
        view = View(call, place, options, self._tell(source), what, self._cluster)
        view.start()
        self._threads.callback(view.close)

    def _tell(self, source: str) -> Callable[[str, Any], None]:
        return lambda event, told: self._events.put((source, event, told))

    def _take(self, seconds: float) -> str:
        """Takes one event; "" when there was none within some seconds."""
        try:
            source, event, told = self._events.get(timeout=seconds)
        except queue.Empty:
            return ""
        if event == "FAILED":
            raise told
        if source == "job":
            self._followed.see_job(event, told, time.monotonic())
        elif source == "pods":
            self._followed.see_pods(event, told, time.monotonic())
        elif event == "LINE":
            self._on_line(told)
        return event

    def _look_again(self) -> None:
        """Before an attempt is called ended: the two views are not in step. The job may say more than its pods, and the
        pods of a job that succeeded early, whose log is to be read, may not have been told yet."""
        job = self._cluster.job(self._name)
        self._followed.see_job("LISTED", [] if job is None else [job], time.monotonic())
        self._followed.see_pods("LISTED", self._cluster.pods(self._name), time.monotonic())
        settle = self._cluster.patience.settle
        end = time.monotonic() + settle
        while self._followed.unexplained() and time.monotonic() < end:
            if self._take(max(0.01, end - time.monotonic())) not in ("", "LINE"):
                end = time.monotonic() + settle  # there were more on their way

    def _follow_log(self) -> None:
        """The log of rank 0's pod, from when there is one; an elastic job may get another such pod."""
        pod = self._followed.main_pod()
        if pod is None:
            return
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        if self._log is None or self._log_uid != uid:
            self._log, self._log_uid = PodLog(self._cluster, name, uid, self._tell("log")), uid
            self._log.start()
            self._threads.callback(self._log.close)
        if self._followed.ending(pod, time.monotonic()) is not None:
            self._log.ended()

    def _finish_log(self, verdict: Verdict) -> None:
        """The rest of the log, where the pod has ended; of one that goes on or is lost only what is on its way."""
        pod, now, patience = self._followed.main_pod(), time.monotonic(), self._cluster.patience
        if self._log is None or pod is None:
            return
        self._log.ended()
        ending = self._followed.ending(pod, now)
        by_itself = verdict.kind == "succeeded" or (ending is not None and ending.exit_code is not None)
        end = now + (patience.log if by_itself else _TICK_SECONDS)
        while time.monotonic() < end and not self._log.finished:
            self._take(max(0.01, end - time.monotonic()))
        while self._take(0):  # of all events that have come, the lines stand among others
            pass
