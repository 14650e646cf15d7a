"""HTTP on loopback for stand-ins of services: JSON answers, what a service refuses, and the faults of a wire."""

import json
import random
import re
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What happens to the next `times` requests whose name (as 'watch pods') fully matches `where`.

    `status` 0 breaks the connection instead of answering; with `after` set the answer begins and breaks after so many
    lines of it. `done` answers with the fault although the request was carried out.
    """

    where: str
    status: int = 0
    times: int = 1
    after: int | None = None
    retry_after: int | None = None
    done: bool = False
    hits: int = 0  # requests that met it

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer that it makes."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class Refused(Exception):
    """A service answers with an error; status 0: it breaks the connection."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass(kw_only=True)
class Wire:
    """What the handlers of all requests share.

    Attributes:
        faults: what goes wrong.
        chance: a source of chance, and the share of requests that go wrong by it.
        requests: their names, in order.
    """

    faults: list[Fault] = field(default_factory=list)
    chance: tuple[random.Random, float] | None = None
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.fullmatch(fault.where, request):
                    fault.times -= 1
                    fault.hits += 1
                    return fault
            if self.chance is not None and self.chance[0].random() < self.chance[1]:
                status, done = self.chance[0].choice(((503, False), (503, True), (0, False), (0, True), (429, False)))
                return Fault(request, status, done=done)
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet; a `Wire` holds the requests."""

    def content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status: int, answer: Any, headers: Mapping[str, str] | None = None) -> None:
        """Bytes go out as they are, anything else as JSON."""
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        length = str(len(content))
        for name, value in {"Content-Type": "application/json", "Content-Length": length, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def sever(self) -> None:
        """Breaks the connection."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class Server(ThreadingHTTPServer):
    """Serves from `start` to `stop`. `failures` are the stand-in's own mistakes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[Handler], **shared: Any) -> None:
        """`shared` become attributes of the handlers."""
        self.failures: list[BaseException] = []
        super().__init__(("127.0.0.1", 0), type("Bound", (handler,), shared | {"failures": self.failures}))
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(timeout=60)

    def handle_error(self, request: Any, client_address: Any) -> None:
        failure = sys.exc_info()[1]
        assert failure is not None
        if not isinstance(failure, OSError):  # OSError: the client went away
            self.failures.append(failure)
