"""The head of a request ends: what a client sends before it is let in is bounded, and so is its time."""

import contextlib
import socket

import pytest

from components.endpoint import heads
from components.endpoint.heads import MAX_HEAD_BYTES, HeadLimitingProtocol

LINE = b"GET /healthz HTTP/1.1\r\nHost: e\r\n"


@pytest.mark.parametrize(
    "endless", [b"GET /" + b"a" * 4096, LINE + b"X-A: " + b"a" * 4096, LINE + b"X-A: a\r\n" * 512], ids=len
)
def test_a_head_without_an_end_is_refused_and_the_next_client_is_answered(start, slow_bundle, http, endless):
    server = start(slow_bundle())
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port))) as client, contextlib.suppress(ConnectionError):
        client.settimeout(60)
        client.sendall(endless)
        for _ in range(8 * MAX_HEAD_BYTES // 4096):
            client.sendall(endless[-4096:])
        assert client.recv(12) == b"HTTP/1.1 400"
    assert http.get(f"{server.url}/healthz", headers={"X-A": "a" * 30_000}).status_code == 200


@pytest.fixture
def connected(start, slow_bundle):
    """A server and a connection to it."""
    server = start(slow_bundle())
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port))) as client:
        client.settimeout(60)
        yield client


def test_a_connection_that_says_nothing_is_closed(monkeypatch, request):
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.1)
    assert request.getfixturevalue("connected").recv(1) == b""


def test_the_second_request_of_a_connection_has_to_end_too(connected, monkeypatch):
    connected.sendall(LINE + b"\r\n")
    while not connected.recv(65536).endswith(b"OK\n"):
        pass
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.1)
    connected.sendall(LINE)
    assert connected.recv(1) == b""


def test_who_has_said_what_it_wants_has_the_time_that_it_takes(
    start, slow_bundle, observation, robot, http, monkeypatch
):
    wait, timers = HeadLimitingProtocol._wait, []

    def noted(protocol):
        wait(protocol)
        timers.append(protocol._late)

    monkeypatch.setattr(HeadLimitingProtocol, "_wait", noted)
    server = start(slow_bundle())
    with robot(server.host) as client:
        client.ask(observation)
        assert http.get(f"{server.url}/healthz").status_code == 200
        assert len(timers) >= 4 and all(timer.cancelled() for timer in timers)
