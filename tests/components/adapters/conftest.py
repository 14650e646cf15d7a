"""An S3 server on loopback (moto) that can be told to fail."""

import base64
import hashlib
import io
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


@dataclass
class Faults:
    """Faults of the next replies: each entry is taken by one request that `when` matches.

    "503" | "429": the server is busy. "cut": the body stops in the middle. "flip": a byte of the body is another one.
    "drop": the connection ends, nothing was done. "lost": all was done, and the connection ends without an answer.
    "broken": a byte of what was sent is another one when it arrives. "": none.
    """

    pending: list[str] = field(default_factory=list)
    when: Callable[[dict[str, Any]], bool] = lambda environ: True
    met: int = 0

    def take(self, environ: dict[str, Any]) -> str | None:
        if not self.pending or not self.when(environ):
            return None
        with _LOCK:
            fault = self.pending.pop(0) if self.pending else ""
            self.met += fault != ""
            return fault or None


_LOCK = Lock()


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    client: Any
    faults: Faults
    requests: list[str]


def _hang_up(environ: dict[str, Any]) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return [b""]


def _refuse_broken_body(
    environ: dict[str, Any], start_response: Callable[..., Any], *, broken: bool
) -> Iterable[bytes] | None:
    """What S3 does and moto does not: bytes that do not fit their checksum are refused."""
    said = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
    if said is None and not broken:
        return None
    data = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
    data = bytes([data[0] ^ 1]) + data[1:] if broken else data
    environ["wsgi.input"] = io.BytesIO(data)
    if said in (None, base64.b64encode(hashlib.sha256(data).digest()).decode()):
        return None
    text = b"<Error><Code>BadDigest</Code><Message>The checksum did not match</Message></Error>"
    start_response("400 Bad Request", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return [text]


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture(scope="session")
def _server() -> Iterator[S3Server]:
    application, faults, requests = DomainDispatcherApplication(create_backend_app), Faults(), []

    def faulty(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}")
        fault = faults.take(environ)
        if fault in ("503", "429"):
            start_response(f"{fault} Slow Down", [("Content-Length", "0")])
            return [b""]
        if fault == "drop":
            start_response("200 OK", [("Content-Length", "0")])
            return _hang_up(environ)
        refused = _refuse_broken_body(environ, start_response, broken=fault == "broken")
        if refused is not None:
            return refused
        body = application(environ, start_response)
        if fault == "lost":
            list(body)
            return _hang_up(environ)
        if fault in ("cut", "flip"):
            whole = b"".join(body)
            half = len(whole) // 2
            rest = bytes([whole[half] ^ 1]) + whole[half + 1 :] if fault == "flip" and whole else b""
            return [whole[:half], rest]
        return body

    server = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=_Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    client = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test").client(
        "s3", endpoint_url=endpoint, region_name="us-east-1"
    )
    client.create_bucket(Bucket="artefacts")
    yield S3Server(endpoint, client, faults, requests)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def s3(_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An empty bucket 'artefacts' on the server, and the environment that leads to it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", _server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "robot")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    faults = _server.faults
    faults.pending.clear()
    faults.met, faults.when = 0, lambda environ: True
    for item in _server.client.list_objects_v2(Bucket="artefacts").get("Contents", []):
        _server.client.delete_object(Bucket="artefacts", Key=item["Key"])
    for item in _server.client.list_multipart_uploads(Bucket="artefacts").get("Uploads", []):
        _server.client.abort_multipart_upload(Bucket="artefacts", Key=item["Key"], UploadId=item["UploadId"])
    _server.requests.clear()
    return _server
