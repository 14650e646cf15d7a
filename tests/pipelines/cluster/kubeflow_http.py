"""The wire of the stand-in for Kubeflow Pipelines: HTTP on loopback, errors as Kubeflow writes them, and faults."""

import email
import email.policy
import json
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.components.launch.kubernetes_wire import Fault, Refused
from tests.pipelines.cluster.kubeflow_shapes import Operation, build, find, plain
from tests.pipelines.cluster.kubeflow_tasks import Object

# google.rpc.Code
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 502: 14, 503: 14, 504: 4}
_CHANCES = ((503, False), (503, True), (0, False), (0, True), (429, False))


@dataclass
class Call:
    """One call: its operation, and what it brought."""

    operation: Operation
    path: dict[str, str]
    query: dict[str, str]
    body: Object
    upload: str
    token: str  # of the header Authorization


@dataclass
class Wire:
    """What the handlers of all requests share.

    Attributes:
        answer: carries a call out.
        faults: what goes wrong; see `Fault`.
        chance: a source of chance, and the share of calls that go wrong by it.
        late: seconds after which a call is carried out whose connection a fault broke before.
        token: what calls must bring; empty: nothing.
        calls: the names of operations, in order.
        uploads: packages, as they came.
    """

    answer: Callable[[Call], Object]
    faults: list[Fault] = field(default_factory=list)
    chance: tuple[random.Random, float] | None = None
    late: float = 0.0
    token: str = ""
    calls: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, name: str) -> Fault | None:
        with self.lock:
            self.calls.append(name)
            for fault in self.faults:
                if fault.times > 0 and re.fullmatch(fault.where, name):
                    fault.times -= 1
                    fault.hits += 1
                    return fault
            if self.chance is not None and self.chance[0].random() < self.chance[1]:
                status, done = self.chance[0].choice(_CHANCES)
                return Fault(name, status, done=done)
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wire: Wire
    failures: list[BaseException]

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the calls are in `wire.calls`."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PATCH = do_GET

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = None
        try:
            call = self._call(content)
            fault = self.wire.fault(call.operation.name)
            if self.wire.token and call.token != f"Bearer {self.wire.token}":
                raise Refused(401, "Unauthenticated", "Request header error: there is no user identity header")
            if fault is not None and fault.status == -1:
                self._break()
                time.sleep(self.wire.late)
                self.wire.answer(call)
                return
            if fault is not None and not fault.done:
                raise Refused(fault.status, "", f"stand-in: asked to answer {fault.status}")
            answer = self.wire.answer(call)
            if fault is not None:
                raise Refused(fault.status, "", f"stand-in: asked to answer {fault.status}")
            self._send(200, answer)
        except Refused as refused:
            if refused.status == 0:
                self._break()
            else:
                said = {"code": _CODES[refused.status], "message": refused.message, "error": refused.message}
                self._send(refused.status, said, None if fault is None else fault.retry_after)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as failure:
            # A mistake of the stand-in, or a shape that was not published: not to be tried again.
            self.failures.append(failure)
            self._send(418, {"code": 2, "message": f"the stand-in broke: {failure!r}"})

    def _call(self, content: bytes) -> Call:
        url = urlsplit(self.path)
        found = find(self.command, unquote(url.path))
        if found is None:
            raise Refused(404, "NotFound", f"{self.command} {url.path} is no operation of the API")
        operation, path = found
        query = dict(parse_qsl(url.query))
        unknown = set(query) - operation.query
        if unknown:
            raise Refused(400, "InvalidArgument", f"unknown query {sorted(unknown)} of {operation.name}")
        body, upload = {}, ""
        if operation.body:
            try:
                body = plain(build(operation.body, json.loads(content)))
            except ValueError as error:
                raise Refused(400, "InvalidArgument", str(error)) from error
        elif content and operation.name.startswith("upload_"):
            upload = self._file(content)
        return Call(operation, path, query, body, upload, self.headers.get("Authorization", ""))

    def _file(self, content: bytes) -> str:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + content, policy=email.policy.HTTP)
        (part,) = (
            part
            for part in message.iter_parts()
            if part.get_param("name", header="content-disposition") == "uploadfile"
        )
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload.decode()

    def _send(self, status: int, answer: Object, retry_after: int | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(content)

    def _break(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, wire: Wire) -> None:
        self.failures: list[BaseException] = []
        shared = {"wire": wire, "failures": self.failures}
        super().__init__(("127.0.0.1", 0), type("Bound", (Handler,), shared))

    def handle_error(self, request: Any, client_address: Any) -> None:
        failure = sys.exc_info()[1]
        assert failure is not None
        if not isinstance(failure, OSError):  # OSError: the client went away
            self.failures.append(failure)
