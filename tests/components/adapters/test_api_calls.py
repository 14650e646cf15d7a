"""What a call of a generated client does when the server is away, shows another certificate, or answers nonsense."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import kubernetes.client
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.adapters import api_calls
from components.adapters.api_calls import ONCE, Caller, Patience, passing, untouched
from components.launch.cluster import KUBERNETES
from components.launch.cluster import client as kubernetes_client
from model.errors import UserError
from pipelines.cluster.api import KUBEFLOW
from tests.loopback import Handler, Server

Call = tuple[Caller, Callable[..., Any]]  # who asks, and what
PATIENCE = Patience(api=30.0, first=0.01, longest=0.05)


def kubeflow(url: str, patience: Patience = PATIENCE) -> Call:
    configuration = kfp_server_api.Configuration(host=url)
    configuration.retries = ONCE
    api = kfp_server_api.HealthzServiceApi(kfp_server_api.ApiClient(configuration))
    return Caller(service=KUBEFLOW, patience=patience), api.healthz_service_get_healthz


def cluster(url: str, patience: Patience = PATIENCE) -> Call:
    api = kubernetes.client.VersionApi(kubernetes_client(kubernetes.client.Configuration(host=url)))
    return Caller(service=KUBERNETES, patience=patience), api.get_code


BOTH = pytest.mark.parametrize("ask", [kubeflow, cluster])


class Answers(Handler):
    answers: list[tuple[int, Any, dict[str, str]]]  # status, body (bytes, or what is JSON), headers

    def do_GET(self) -> None:
        status, body, headers = self.answers.pop(0)
        self.send(status, body, headers)


@pytest.fixture
def answers() -> list[tuple[int, Any, dict[str, str]]]:
    """What the server answers, one a request."""
    return []


@pytest.fixture
def server(answers: list[Any]) -> Iterator[Server]:
    made = Server(Answers, answers=answers)
    made.start()
    yield made
    made.stop()


def certify(server: Server, folder: Path) -> None:
    """A certificate that nobody has signed but itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    signed = made.add_extension(here, critical=False).sign(key, hashes.SHA256())
    (folder / "server.pem").write_bytes(private + signed.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)


@BOTH
def test_a_certificate_that_is_not_trusted_is_said_at_once(
    ask: Callable[..., Call], server: Server, tmp_path: Path
) -> None:
    certify(server, tmp_path)
    caller, call = ask(server.url.replace("http:", "https:"))
    with pytest.raises(UserError, match="asking: .* is not where it should be .*CERTIFICATE_VERIFY_FAILED.*: correct "):
        caller.read(call, "asking")


@BOTH
def test_a_server_without_tls_is_said_at_once(ask: Callable[..., Call], server: Server) -> None:
    caller, call = ask(server.url.replace("http:", "https:"))
    with pytest.raises(UserError, match="is not where it should be .*WRONG_VERSION_NUMBER"):
        caller.read(call, "asking")


@BOTH
@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), ("no certificate", "NO_CERTIFICATE_OR_CRL")])
def test_a_file_with_no_certificate_is_said_at_once(
    ask: Callable[..., Call], server: Server, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    caller, call = ask(server.url.replace("http:", "https:"))
    call.__self__.api_client.rest_client.pool_manager.connection_pool_kw["ca_certs"] = str(tmp_path / "ca.pem")
    with pytest.raises(UserError, match=f"is not where it should be .*{says}.*: correct "):
        caller.read(call, "asking")


@pytest.mark.parametrize(
    ("address", "says"), [("http://127.0.0.1:eight", "Failed to parse"), ("http://127.0.0.1 8", "InvalidURL")]
)
@BOTH
def test_an_address_that_is_none_is_said_at_once(ask: Callable[..., Call], address: str, says: str) -> None:
    caller, call = ask(address)
    with pytest.raises(UserError, match=f"is not where it should be .*{says}.*: correct "):
        caller.read(call, "asking")


@BOTH
def test_a_page_in_place_of_json_is_asked_for_again_where_the_api_was(
    ask: Callable[..., Call], server: Server, answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [(200, {"a": 0}, {}), (200, b"<html>starting", {}), (408, "", {}), (200, {"a": 1}, {})]
    caller, call = ask(server.url)
    assert [caller.read(call, "asking") for _ in range(2)] == [{"a": 0}, {"a": 1}]
    assert capsys.readouterr().err == "", "what passes soon is not worth a line"


@BOTH
def test_an_address_where_another_server_is_is_said_at_once(
    ask: Callable[..., Call], server: Server, answers: list[Any]
) -> None:
    answers += [(200, b"\n<!doctype html>", {})]
    caller, call = ask(server.url)
    with pytest.raises(UserError, match="asking: .* is not where it should be .*<!doctype html>.*: correct "):
        caller.read(call, "asking")


@BOTH
@pytest.mark.parametrize("status", [302, 401, 403])
def test_a_refusal_says_what_to_do(ask: Callable[..., Call], server: Server, answers: list[Any], status: int) -> None:
    answers += [(status, {"message": "not\nyou"}, {"Location": "/login"} if status == 302 else {})]
    caller, call = ask(server.url)
    with pytest.raises(UserError, match=rf"asking: {caller.service.name} refuses it \({status}: not you\): .*log in"):
        caller.read(call, "asking")


@BOTH
def test_a_long_wait_is_told_once(
    ask: Callable[..., Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api_calls, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(api_calls, "time", SimpleNamespace(monotonic=count().__next__))  # each look is a second later
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens there
        caller, call = ask(f"http://127.0.0.1:{held.getsockname()[1]}", Patience(api=9.0, first=0.01, longest=0.02))
        with pytest.raises(UserError, match="has not answered for 9 s .*Connection refused"):
            caller.read(call, "asking")
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"asking: {caller.service.name} does not answer (NewConnectionError: " in told


class Waits(threading.Event):
    """Keeps how long each wait would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return True


@BOTH
@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("3600", 60.0), ("Thu, 23 Nov 2023 05:00:00 GMT", 0.0)])
def test_the_server_says_when_it_may_be_asked_again(
    ask: Callable[..., Call], server: Server, answers: list[Any], said: str, seconds: float
) -> None:
    answers += [(429, {"message": "slowly"}, {"Retry-After": said})]
    caller, call = ask(server.url)
    with pytest.raises(caller.service.error) as refused:
        api_calls.once(call)
    waits = Waits()
    caller.backoff(waits).wait(refused.value, "asking")
    assert waits.seconds == [pytest.approx(seconds, abs=PATIENCE.first)]


@pytest.mark.parametrize("status", [None, 0])
def test_an_error_without_an_answer_may_pass(status: int | None) -> None:
    assert passing(KUBERNETES.error(status)) and passing(KUBEFLOW.error(status))


@BOTH
def test_a_server_that_was_not_reached_did_nothing(ask: Callable[..., Call], server: Server) -> None:
    _, call = ask(server.url)
    server.stop()
    with pytest.raises(Exception, match="refused") as failed:
        api_calls.once(call)
    assert untouched(failed.value)


@BOTH
def test_what_is_not_there_is_none(ask: Callable[..., Call], server: Server, answers: list[Any]) -> None:
    answers += [(404, {}, {}), (400, {}, {})]
    caller, call = ask(server.url)
    assert caller.read_or_none(call, "asking") is None
    with pytest.raises(caller.service.error):
        caller.read_or_none(call, "asking")
