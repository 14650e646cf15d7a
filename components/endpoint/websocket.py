"""openpi's websocket: the metadata frame, then one reply for each message, strictly in order.

Messages are read ahead of the replies: a newer observation supersedes the one that still waits for the model (which is
answered with a sentence, so that a client can count), and a client that left is noticed before the model is asked.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from components.endpoint.codec import pack, unpack
from components.endpoint.errors import BadMessage, Refused, Unavailable
from components.endpoint.journal import Exchange
from components.endpoint.service import Asked, Service
from components.endpoint.sessions import Session

CLOSE_RESTART = 1012
CLOSE_FAULT = 1011
MAX_CONNECTIONS = 64
_TRANSPORT = "websocket"
_READ_AHEAD = 4  # replies that one connection may be owed; then its messages wait in the socket
_POLL_SECONDS = 0.02
_GOODBYE = "the server is shutting down: connect again"
_GOODBYE_SECONDS = 1.0  # a client that reads nothing is not waited for
_SEND_SECONDS = 30.0  # one that has read nothing for so long has left, whatever its socket says
logger = logging.getLogger("lingbot.endpoint")


@dataclass(kw_only=True, eq=False)
class _Owed:
    """A message whose reply is owed; `asked` of None was refused before the model."""

    exchange: Exchange
    arrived: float  # by `time.perf_counter`
    asked: Asked | None = None


class Connection:
    """One robot's connection."""

    def __init__(self, socket: WebSocket, service: Service, session: Session) -> None:
        self.session = session
        self.closing = False  # after the next reply
        self._socket = socket
        self._service = service
        self._owed: asyncio.Queue[_Owed] = asyncio.Queue(_READ_AHEAD)
        self._working: set[_Owed] = set()
        self._closed = False
        self._previous_ms: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a reply is owed."""
        return bool(self._working)

    async def serve(self) -> None:
        """Until the client leaves or the server drains."""
        await self._socket.accept()
        await self._socket.send_bytes(pack(self._service.metadata()))
        reader, writer = asyncio.create_task(self._read()), asyncio.create_task(self._write())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in (reader, writer):
                if task.done():
                    task.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            for owed in self._working:
                if owed.asked is not None:
                    self._service.leave(owed.asked)

    async def close(self, code: int = CLOSE_RESTART, reason: str = _GOODBYE) -> None:
        """Says goodbye, once, and answers nothing after it: the client knows by it that it may ask another server."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(WebSocketDisconnect):  # it has left
                await self._socket.close(code, reason)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            owed = _Owed(exchange=Exchange(transport=_TRANSPORT, session=self.session), arrived=time.perf_counter())
            self._working.add(owed)
            self._ask(message.get("bytes"), owed)
            await self._owed.put(owed)

    def _ask(self, data: bytes | memoryview | None, owed: _Owed) -> None:
        """Here and now, on the way to the model: what follows a message costs no turn of the event loop."""
        exchange = owed.exchange
        try:
            if data is None:
                raise BadMessage("send binary frames of msgpack, not text")
            exchange.message = unpack(data)
            exchange.decode = time.perf_counter() - owed.arrived
            owed.asked = self._service.ask(exchange.message, self.session)
        except Refused as refusal:
            exchange.refusal = refusal

    async def _write(self) -> None:
        while True:
            owed = await self._owed.get()
            exchange = owed.exchange
            try:
                await self._answer(owed)
                exchange.total = time.perf_counter() - owed.arrived
                self._service.journal.write(exchange)
            finally:
                self._working.discard(owed)
            if self._service.draining and not self.busy and (self.closing or self.session.episode is None):
                await self.close()
                return

    async def _answer(self, owed: _Owed) -> None:
        exchange = owed.exchange
        if owed.asked is not None:
            try:
                exchange.reply = await self._service.reply(owed.asked)
            except Refused as refusal:
                exchange.refusal = refusal
        if self._closed:
            return
        if exchange.reply is not None:
            await self._send(exchange.reply, exchange, owed.arrived)
            return
        assert exchange.refusal is not None, "what was not asked was refused"
        self._service.refused(exchange.refusal, _TRANSPORT)
        # A text frame is how openpi-client learns of an error; the connection stays for the next one.
        async with asyncio.timeout(_SEND_SECONDS):
            await self._socket.send_text(str(exchange.refusal))

    async def _send(self, reply: dict[str, Any], exchange: Exchange, arrived: float) -> None:
        if self._previous_ms is not None and "server_timing" in reply:
            reply["server_timing"]["prev_total_ms"] = self._previous_ms
        started = time.perf_counter()
        async with asyncio.timeout(_SEND_SECONDS):
            await self._socket.send_bytes(pack(reply))
        ended = time.perf_counter()
        exchange.encode = ended - started
        self._observe(reply, "decode", exchange.decode)
        self._observe(reply, "encode", exchange.encode)
        self._previous_ms = (ended - arrived) * 1000

    def _observe(self, reply: Mapping[str, Any], stage: str, seconds: float) -> None:
        self._service.metrics.observe("stage_seconds", seconds, version=reply["model_version"], stage=stage)


class Connections:
    """All connections, so that a drain can end them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, socket: WebSocket) -> None:
        """Serves one connection to its end.

        Raises:
            Unavailable: before the handshake, when the server drains or has too many connections.
        """
        reason = self._service.ready()
        if self._service.draining or not self._service.warm:
            raise Unavailable(f"not now: {reason}", retry_after=1)
        if len(self._open) >= MAX_CONNECTIONS:
            raise Unavailable(f"{MAX_CONNECTIONS} robots are connected already", retry_after=5)
        session = self._service.sessions.open()
        connection = Connection(socket, self._service, session)
        self._open.add(connection)
        self._count()
        try:
            await connection.serve()
        except WebSocketDisconnect:
            logger.info("a client left before its reply")
        except TimeoutError:
            logger.warning("a client read no reply for %.0f s: its connection is given up", _SEND_SECONDS)
        except Exception:
            number = uuid.uuid4().hex[:12]
            logger.exception("fault %s on a connection", number)
            self._service.metrics.count("faults", transport=_TRANSPORT)
            await connection.close(CLOSE_FAULT, f"internal error {number}: see the server's log")
        finally:
            self._open.discard(connection)
            self._service.sessions.close(session)
            self._count()

    async def drain(self, episode_seconds: float, seconds: float) -> None:
        """Ends every connection; returns when none is left or time is up.

        Who has no episode is closed at once. The others go on: `draining` in their replies asks them to connect again
        between episodes. After `episode_seconds` each is closed after its next reply, which loses nothing, and after
        `seconds` in any case.
        """
        started = time.monotonic()
        await _close(one for one in self._open if not one.busy and one.session.episode is None)
        while self._open and time.monotonic() - started < seconds:
            if time.monotonic() - started >= episode_seconds:
                for connection in self._open:
                    connection.closing = True
            await asyncio.sleep(_POLL_SECONDS)
        await _close(self._open)

    def _count(self) -> None:
        self._service.metrics.set("connections", len(self._open))


async def _close(connections: Iterable[Connection]) -> None:
    closing = [asyncio.create_task(connection.close()) for connection in connections]
    if closing:
        _, stuck = await asyncio.wait(closing, timeout=_GOODBYE_SECONDS)
        for task in stuck:
            task.cancel()
