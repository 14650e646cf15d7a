"""The end of a connection when something else happens in the same moment: nothing breaks, nothing is held up."""

import asyncio
import itertools
import math
import socket
from types import SimpleNamespace

import pytest
from fastapi import WebSocket

from components.endpoint import draining, revocation, websocket
from components.endpoint.app import create_app
from components.endpoint.codec import pack
from components.endpoint.draining import DrainingServer
from components.endpoint.revocation import serve_while
from components.endpoint.websocket import Connections

RESET = pack({"reset": True})
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: e\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Wire:
    """The server's side of a websocket, as uvicorn behaves. `gone`: the client has left, which nobody has read yet."""

    def __init__(self):
        self.arrived = asyncio.Queue()
        self.sent = []
        self.gone = False
        self.socket = WebSocket({"type": "websocket", "headers": []}, self.arrived.get, self._send)
        self.arrived.put_nowait({"type": "websocket.connect"})

    async def _send(self, message):
        if self.gone:
            raise OSError("the client has left")
        assert "websocket.close" not in [one["type"] for one in self.sent], "nothing can be sent after it"
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.arrived.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    def ask(self, frame):
        self.arrived.put_nowait({"type": "websocket.receive", "bytes": frame})

    async def greeted(self):
        while len(self.sent) < 2:
            await asyncio.sleep(0)


@pytest.fixture
def scene(make_service, slow_bundle):
    """`scene(play)`: a service, its connections and one that is open; at its end nothing may have broken."""

    def run(play):
        async def main():
            service = make_service(slow_bundle())
            service.warm = True
            connections, wire = Connections(service), Wire()
            serving = asyncio.create_task(connections.serve(wire.socket))
            await wire.greeted()
            await play(SimpleNamespace(service=service, connections=connections, wire=wire, serving=serving))
            service.runner.close()
            assert service.metrics.value("faults", transport="websocket") == 0

        asyncio.run(asyncio.wait_for(main(), 60))

    return run


def test_a_question_in_the_moment_of_the_goodbye_is_left_to_the_next_server(scene):
    async def play(on):
        on.service.draining = True
        on.wire.ask(RESET)
        (connection,) = on.connections._open
        await connection.close()
        await on.serving
        assert [message.get("code") for message in on.wire.sent] == [None, None, 1012]

    scene(play)


def test_who_left_in_the_moment_of_the_goodbye_does_not_end_the_drain_of_the_others(scene):
    async def play(on):
        on.service.draining = on.wire.gone = True
        draining_all = asyncio.create_task(on.connections.drain(0.0, 60.0))
        await asyncio.sleep(0.1)
        assert not draining_all.done() and len(on.connections) == 1  # it is still waited for
        on.wire.arrived.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await asyncio.gather(draining_all, on.serving)

    scene(play)


@pytest.mark.parametrize("end", ["closed", "gone"])
def test_a_key_that_is_revoked_in_the_moment_of_the_end_breaks_nothing(scene, monkeypatch, end):
    monkeypatch.setattr(revocation, "_LOOK_SECONDS", 0.01)

    async def play(on):
        if end == "gone":
            on.wire.gone = True
        else:
            await on.wire.socket.close(1012)
        await serve_while(lambda: False, on.wire.socket, asyncio.sleep(60))
        on.serving.cancel()

    scene(play)


@pytest.fixture
def deaf(start, slow_bundle):
    """`deaf(until)`: a server with a client that asks until then, and reads nothing: its replies fill every buffer."""
    with socket.socket() as client:

        def go(until, **options):
            listener = socket.create_server(("127.0.0.1", 0))
            for end, buffer in itertools.product((listener, client), (socket.SO_RCVBUF, socket.SO_SNDBUF)):
                end.setsockopt(socket.SOL_SOCKET, buffer, 4096)
            server = start(slow_bundle(), listener=listener, **options)
            client.connect(listener.getsockname())
            client.sendall(HANDSHAKE)
            client.settimeout(0.5)
            frames = waiting = (b"\x82" + bytes([0x80 | len(RESET)]) + bytes(4) + RESET) * 50  # masked with zeros
            late = 0
            while not until(server, late):
                try:
                    waiting = waiting[client.send(waiting) :] or frames
                except OSError:
                    late += 1  # the server reads no more, as it cannot write
            return server

        yield go


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(deaf):
    """Its goodbye cannot be sent."""
    deaf(lambda server, late: late == 2, drain_seconds=1.0).stop()


def test_a_client_that_reads_nothing_does_not_keep_its_place(deaf, monkeypatch, caplog):
    monkeypatch.setattr(websocket, "_SEND_SECONDS", 0.2)
    given_up = "a client read no reply for 0 s: its connection is given up"
    server = deaf(lambda server, late: given_up in caplog.text or late > 120)
    assert given_up in caplog.text and server.service.metrics.value("faults", transport="websocket") == 0


def test_replies_over_http_get_what_the_drain_left_of_its_time(make_service, slow_bundle, monkeypatch):
    clock = iter([100.0, 103.5, 103.5])
    monkeypatch.setattr(draining, "time", SimpleNamespace(monotonic=lambda: next(clock, 103.5)))

    async def nobody(*times):
        pass

    server = DrainingServer(create_app(make_service(slow_bundle())), drain_seconds=5.0, on_ready=lambda: None)
    assert server.config.timeout_graceful_shutdown == 5
    monkeypatch.setattr(server._connections, "drain", nobody)
    asyncio.run(server._drain_and_stop())
    assert server.config.timeout_graceful_shutdown == math.ceil(105.0 - 103.5) and server.should_exit
