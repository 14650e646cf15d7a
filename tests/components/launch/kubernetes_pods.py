"""The kubelet of the stand-in: a pod is a process group on this machine.

What the pod's first container says it runs is run, with its environment; the log keeps each line with the time at which
it came, as a container runtime does. The status of the pod follows the process: Pending, Running, and at its end the
exit code and the reason. A pod that ends takes every process of its group with it, as a container does.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.components.launch.kubernetes_store import Object, Store, now

PROJECT = Path(__file__).parents[3]  # what the image holds
TERMINATION_LOG = "/dev/termination-log"
MESSAGE_BYTES = 4096
Command = Callable[[Object, list[str], dict[str, str]], list[str]]


@dataclass
class Log:
    """Lines with their stamps, and whether more can come."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Log
    message: Path  # the container's termination message
    reason: str | None = None  # of the end, where it is not told by the exit code
    lost: bool = False  # the node is gone: nobody reports the end


def stamp() -> str:
    """RFC 3339 with nanoseconds, as the log endpoint writes it."""
    nanoseconds = time.time_ns()
    seconds = datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{seconds}.{nanoseconds % 10**9:09d}Z"


def set_condition(conditions: list[Object], kind: str, status: str, reason: str, message: str) -> None:
    conditions[:] = [condition for condition in conditions if condition["type"] != kind]
    conditions.append(
        {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
    )


def as_run(container: Object, environment: dict[str, str]) -> list[str]:
    """The container's command and arguments, with `$(NAME)` replaced as the kubelet does."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match.group(1), match.group(0))

    return [
        re.sub(r"\$\(([A-Za-z0-9_]+)\)", value, part)
        for part in [*container.get("command", []), *container.get("args", [])]
    ]


class Kubelet:
    """Runs the pods of one store; `command` turns what the container would run into what is run here."""

    def __init__(self, store: Store, folder: Path, command: Command | None = None) -> None:
        self.store = store
        self.folder = folder
        self.command = command
        self.logs: dict[str, Log] = {}
        self.groups: list[int] = []  # every process group that was ever started
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, pod: Object) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        container = pod["spec"]["containers"][0]
        environment = {entry["name"]: str(entry.get("value", "")) for entry in container.get("env", [])}
        message = self.folder / f"{name}-{pod['metadata']['uid']}.message"
        environment["TERMINATION_LOG"] = str(message)
        inside = container.get("terminationMessagePath", TERMINATION_LOG)
        command = [str(message) if part == inside else part for part in as_run(container, environment)]
        command = [sys.executable if part == "python" else part for part in command]
        if self.command is not None:
            command = self.command(pod, command, environment)
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = Running(process, Log(), message)
        with self._lock:
            self.groups.append(process.pid)
            self.logs[name] = running.log
            self._running[name] = running
        # Before anybody waits for its end: what has ended must not be said to run.
        state = {"running": {"startedAt": now()}}
        self.store.change("pods", namespace, name, lambda found: self._status(found, "Running", state))
        self._spawn(self._read, running)
        self._spawn(self._wait, namespace, name, running)

    def terminate(self, namespace: str, name: str, grace: float) -> None:
        """What deleting a pod does: SIGTERM, after the grace period SIGKILL, then the object goes."""
        with self._lock:
            running = self._running.get(name)
        if running is None:
            self.store.remove("pods", namespace, name)
        elif not running.lost:
            self._spawn(self._terminate, namespace, name, running, grace)

    def kill(self, name: str, reason: str) -> None:
        """SIGKILL to all of the pod, for a reason such as OOMKilled."""
        running = self._running[name]
        running.reason = reason
        self._signal(running, signal.SIGKILL)

    def lose(self, name: str) -> None:
        """The machine under the pod is gone: its processes too, and nobody says so."""
        running = self._running[name]
        running.lost = True
        self._signal(running, signal.SIGKILL)

    def forget(self, name: str) -> None:
        with self._lock:
            self._running.pop(name, None)

    def alive(self) -> list[int]:
        """Process groups that still have a process."""
        found = []
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, 0)
                found.append(group)
        return found

    def close(self) -> None:
        for running in list(self._running.values()):
            if not running.lost:
                self._signal(running, signal.SIGKILL)
        for thread in self._threads:
            thread.join(timeout=30)

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read(self, running: Running) -> None:
        assert running.process.stdout is not None
        with running.process.stdout as output:
            for line in output:
                with self.store.changed:
                    running.log.lines.append((stamp(), line.decode(errors="replace").rstrip("\n")))
                    self.store.changed.notify_all()
        with self.store.changed:
            running.log.ended = True
            self.store.changed.notify_all()

    def _wait(self, namespace: str, name: str, running: Running) -> None:
        code = running.process.wait()
        self._signal(running, signal.SIGKILL)  # what the main process left
        if running.lost:
            return
        exit_code = 128 - code if code < 0 else code
        reason = running.reason or ("Completed" if exit_code == 0 else "Error")
        ended: Object = {"exitCode": exit_code, "reason": reason, "finishedAt": now()}
        with contextlib.suppress(FileNotFoundError):
            ended["message"] = running.message.read_text(encoding="utf-8")[:MESSAGE_BYTES]
        state = {"terminated": ended}
        phase = "Succeeded" if exit_code == 0 else "Failed"
        self.store.change("pods", namespace, name, lambda found: self._status(found, phase, state))
        self.forget(name)

    def _terminate(self, namespace: str, name: str, running: Running, grace: float) -> None:
        self._signal(running, signal.SIGTERM)
        try:
            running.process.wait(grace)
        except subprocess.TimeoutExpired:
            self._signal(running, signal.SIGKILL)
        running.process.wait()
        while name in self._running:  # the status is written before the object goes
            time.sleep(0.01)
        self.store.remove("pods", namespace, name)

    @staticmethod
    def _signal(running: Running, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, number)

    @staticmethod
    def _status(pod: Object, phase: str, state: Object) -> None:
        container = pod["spec"]["containers"][0]["name"]
        pod["status"]["phase"] = phase
        pod["status"]["containerStatuses"] = [
            {"name": container, "state": state, "ready": phase == "Running", "restartCount": 0}
        ]
