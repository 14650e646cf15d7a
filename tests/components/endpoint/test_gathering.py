"""Frames that the endpoint gathers itself: what the library would have made of the same bytes, however they come."""

import asyncio
import struct

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from components.endpoint.gathering import _HEAD_BYTES, _LARGE, GatheringProtocol

MAX_BYTES = 8 * _LARGE
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9


def frame(payload, opcode=BINARY, *, final=True, mask=b"\x11\x22\x33\x44", reserved=0):
    """One frame as a client sends it; `mask` of None breaks the rule that it is masked."""
    first = (0x80 if final else 0) | reserved | opcode
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) < 2**16:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    if not mask:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Transport(asyncio.Transport):
    """Takes what is written; its end is told to the protocol as a socket's is."""

    def __init__(self, protocol):
        super().__init__()
        self.written, self._protocol, self._closing = b"", protocol, False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self._closing

    def close(self):
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def pause_reading(self):
        assert not self._closing, "uvloop raises"

    def resume_reading(self):
        pass


def feed(protocol, data):
    """As a transport does with a protocol that has a buffer of its own, and with one that has none."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)
        return
    while data:
        buffer = protocol.get_buffer(-1)
        count = min(len(buffer), len(data))
        assert count, "a buffer without room: the transport would take it for the end"
        buffer[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


async def connected(kind, events, *, replies=False):
    """A connection whose app keeps its events."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            if event.get("bytes") is not None:
                event = {**event, "bytes": bytes(event["bytes"])}
            events.append(event)
            if event["type"] == "websocket.disconnect":
                return
            if replies:
                await send({"type": "websocket.send", "text": "heard"})

    config = Config(app, log_config=None, ws_max_size=MAX_BYTES, ws_per_message_deflate=False, lifespan="off")
    config.load()
    protocol = kind(config, ServerState(), {})
    transport = Transport(protocol)
    protocol.connection_made(transport)
    protocol.data_received(HANDSHAKE)
    while not transport.written:
        await asyncio.sleep(0)
    return protocol, transport


def received(kind, pieces):
    """(what the app was sent, the bytes that the client was answered) when the pieces come in this order."""

    async def scenario():
        events = []
        protocol, transport = await connected(kind, events)
        for piece in pieces:
            if transport.is_closing():
                break
            feed(protocol, piece)
        for _ in range(10):
            await asyncio.sleep(0)
        transport.close()
        while not events or events[-1]["type"] != "websocket.disconnect":
            await asyncio.sleep(0)
        return events, transport.written

    return asyncio.run(asyncio.wait_for(scenario(), 60))


def both(pieces, frames=None):
    """`frames`: the same bytes, frame by frame, for the library: of what comes at once it forgets what was before a
    fault."""
    ours, theirs = received(GatheringProtocol, pieces), received(WebSocketsSansIOProtocol, frames or pieces)
    assert brief(ours) == brief(theirs)
    assert ours == theirs
    return ours


def brief(heard):
    events, written = heard
    told = [(event["type"], len(event.get("bytes") or event.get("text") or ""), event.get("code")) for event in events]
    return told, written[-40:]


def payload(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


SIZES = [
    0, 1, 125, 126, 65535, 65536, _LARGE - 1, _LARGE, _LARGE + 1, _LARGE + 7,
    _HEAD_BYTES - 8, _HEAD_BYTES, _HEAD_BYTES + 1, MAX_BYTES,
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [BINARY, TEXT])
def test_a_message_of_any_size_arrives_as_it_was_sent(size, opcode):
    content = payload(size) if opcode == BINARY else b"a" * size
    events, _ = both([frame(content, opcode)])
    assert events[0] == {"type": "websocket.receive", **(
        {"bytes": content} if opcode == BINARY else {"text": content.decode()}
    )}  # fmt: skip


FRAMES = {
    "small": frame(b"abc"),
    "large": frame(payload(_LARGE + 3), mask=b"\xff\x00\x80\x01"),
    "larger": frame(payload(3 * _LARGE + 5)),
    "ping": frame(b"there?", PING),
    "text": frame(b"words", TEXT),
    "long text": frame(b"w" * (_LARGE + 9), TEXT),
    "begun": frame(payload(_LARGE), final=False),
    "continued": frame(payload(_LARGE + 2), CONTINUATION, final=False),
    "ended": frame(payload(70_000), CONTINUATION),
    "closed": frame(struct.pack("!H", 1000) + b"bye", CLOSE),
    "too large": frame(payload(MAX_BYTES + 1)),
    "huge": b"\x82\xff" + b"\xff" * 8 + bytes(4),
    "unmasked": frame(payload(_LARGE + 4), mask=None),
    "reserved": frame(payload(_LARGE + 4), reserved=0x40),
    "unknown": frame(payload(10), 5),
}


@settings(max_examples=150, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    names=st.lists(st.sampled_from(sorted(FRAMES)), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 400_000), max_size=6),
)
def test_frames_in_any_order_and_any_pieces_are_what_the_library_makes_of_them(names, cuts):
    frames = [FRAMES[name] for name in names]
    data = b"".join(frames)
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    both([data[first:last] for first, last in zip(at, at[1:], strict=False)], frames)


@pytest.mark.parametrize("name", ["large", "small", "long text"])
def test_a_head_that_comes_byte_by_byte(name):
    data = FRAMES[name]
    events, _ = both([*(data[i : i + 1] for i in range(20)), data[20:], FRAMES["ping"]])
    assert events[0]["type"] == "websocket.receive"


def test_a_large_frame_is_received_in_place_and_not_by_the_library(monkeypatch):
    """The fast way is taken: the library sees the handshake and the small frame alone."""
    seen, receive = [], WebSocketsSansIOProtocol.data_received

    def noted(protocol, data):
        seen.append(len(data))
        receive(protocol, data)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", noted)
    received(GatheringProtocol, [FRAMES["larger"] + FRAMES["small"], FRAMES["large"]])
    assert seen == [len(HANDSHAKE), len(FRAMES["small"])]


def test_a_connection_that_is_lost_amid_a_large_frame_ends():
    events, _ = both([FRAMES["larger"][:50_000]])
    assert [event["type"] for event in events] == ["websocket.disconnect"]


@pytest.mark.parametrize("before", range(14))
def test_what_looks_like_a_head_inside_a_frame_is_none(before):
    head = FRAMES["large"][:14]
    inside = b"." * before + head * (4 * _HEAD_BYTES // len(head))
    events, _ = both([frame(inside, final=False, mask=bytes(4)), frame(b"end", CONTINUATION)])
    assert events[0]["bytes"] == inside + b"end"


def test_nothing_is_heard_after_a_goodbye():
    events, _ = both([FRAMES["closed"] + FRAMES["large"]])
    assert [event["type"] for event in events] == ["websocket.disconnect"]


def test_a_reply_waits_while_the_socket_is_full():
    async def scenario():
        events = []
        protocol, transport = await connected(GatheringProtocol, events, replies=True)
        protocol.pause_writing()
        before = transport.written
        feed(protocol, FRAMES["large"])
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(events) == 1 and transport.written == before
        protocol.resume_writing()
        while transport.written == before:
            await asyncio.sleep(0)
        transport.close()
        while events[-1]["type"] != "websocket.disconnect":
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_refused_handshake_is_no_error_of_the_server(start, slow_bundle, caplog):
    server = start(slow_bundle())
    with pytest.raises(InvalidStatus, match="404"):
        connect(f"ws://{server.host}/nowhere", proxy=None)
    server.stop()  # what it has to log is logged
    assert [(one.name, one.getMessage()) for one in caplog.records] == []
