"""The wire of the stand-in for Kubeflow Pipelines: HTTP on loopback, errors as Kubeflow writes them, and faults."""

import email
import email.policy
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from tests import loopback
from tests.loopback import Refused
from tests.pipelines.cluster.kubeflow_shapes import Operation, build, find, plain
from tests.pipelines.cluster.kubeflow_tasks import Object

# google.rpc.Code
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 502: 14, 503: 14, 504: 4}


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
class Wire(loopback.Wire):
    """What the handlers of all requests share; the name of a request is its operation's.

    Attributes:
        answer: carries a call out.
        late: when it is set, a call is carried out whose connection a fault of status -1 broke before.
        token: what calls must bring; empty: nothing.
        uploads: packages, as they came.
    """

    answer: Callable[[Call], Object]
    late: threading.Event = field(default_factory=threading.Event)
    token: str = ""
    uploads: list[str] = field(default_factory=list)


class Handler(loopback.Handler):
    wire: Wire
    failures: list[BaseException]

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PATCH = do_GET

    def _answer(self) -> None:
        content = self.content()
        fault = None
        try:
            call = self._call(content)
            fault = self.wire.fault(call.operation.name)
            if self.wire.token and call.token != f"Bearer {self.wire.token}":
                raise Refused(401, "Unauthenticated", "Request header error: there is no user identity header")
            if fault is not None and fault.status == -1:
                self.sever()
                self.wire.late.wait()
                self.wire.answer(call)
                return
            if fault is not None and not fault.done:
                raise Refused(fault.status, "", f"stand-in: asked to answer {fault.status}")
            answer = self.wire.answer(call)
            if fault is not None:
                raise Refused(fault.status, "", f"stand-in: asked to answer {fault.status}")
            self.send(200, answer)
        except Refused as refused:
            if refused.status == 0:
                self.sever()
            else:
                said = {"code": _CODES[refused.status], "message": refused.message, "error": refused.message}
                self.send(refused.status, said, None if fault is None else fault.headers)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as failure:
            # A mistake of the stand-in, or a shape that was not published: not to be tried again.
            self.failures.append(failure)
            self.send(418, {"code": 2, "message": f"the stand-in broke: {failure!r}"})

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


class Server(loopback.Server):
    def __init__(self, wire: Wire) -> None:
        super().__init__(Handler, wire=wire)
