"""An S3 server on loopback (moto) that can be told to fail."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


@dataclass
class Faults:
    """Faults of the next replies: each entry is taken by one request that `when` matches."""

    pending: list[str] = field(default_factory=list)  # "503" | "cut" (the body stops in the middle)
    when: Callable[[dict[str, Any]], bool] = lambda environ: True
    met: int = 0

    def take(self, environ: dict[str, Any]) -> str | None:
        if self.pending and self.when(environ):
            self.met += 1
            return self.pending.pop(0)
        return None


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    client: Any
    faults: Faults
    requests: list[str]


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture(scope="session")
def _server() -> Iterator[S3Server]:
    application, faults, requests = DomainDispatcherApplication(create_backend_app), Faults(), []

    def faulty(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        fault = faults.take(environ)
        if fault == "503":
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        body = application(environ, start_response)
        if fault == "cut":
            whole = b"".join(body)
            return [whole[: len(whole) // 2]]
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
    _server.requests.clear()
    return _server
