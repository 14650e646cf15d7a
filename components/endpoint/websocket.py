"""openpi's websocket: the metadata frame, then one reply for each message, strictly in order."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from components.endpoint.codec import pack, unpack
from components.endpoint.errors import BadMessage, Refused, Unavailable
from components.endpoint.service import Service
from components.endpoint.sessions import Session

CLOSE_RESTART = 1012
CLOSE_FAULT = 1011
MAX_CONNECTIONS = 64
logger = logging.getLogger("lingbot.endpoint")


class Connection:
    """One robot's connection."""

    def __init__(self, socket: WebSocket, service: Service, session: Session) -> None:
        self._socket = socket
        self._service = service
        self._session = session
        self._busy = False
        self._previous_ms: float | None = None

    async def serve(self) -> None:
        """Until the client leaves or the server drains."""
        await self._socket.accept()
        await self._socket.send_bytes(pack(self._service.metadata()))
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._busy = True
            await self._reply(message)
            self._busy = False
            if self._service.draining:
                await self.close()
                return

    async def close_if_idle(self) -> None:
        """A busy session closes itself after its reply."""
        if not self._busy:
            await self.close()

    async def close(self) -> None:
        await self._socket.close(CLOSE_RESTART, "the server is shutting down: connect again")

    async def _reply(self, message: Mapping[str, Any]) -> None:
        started = time.perf_counter()
        try:
            data = message.get("bytes")
            if data is None:
                raise BadMessage("send binary frames of msgpack, not text")
            reply = await self._service.answer(unpack(data), self._session)
        except Refused as refusal:
            # A text frame is how openpi-client learns of an error; the connection stays for the next observation.
            self._service.counters[f"refused_{refusal.status}"] += 1
            await self._socket.send_text(str(refusal))
            return
        if self._previous_ms is not None and "server_timing" in reply:
            reply["server_timing"]["prev_total_ms"] = self._previous_ms
        await self._socket.send_bytes(pack(reply))
        self._previous_ms = (time.perf_counter() - started) * 1000


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
        try:
            await connection.serve()
        except WebSocketDisconnect:
            logger.info("a client left before its reply")
        except Exception:
            logger.exception("a connection failed")
            await socket.close(CLOSE_FAULT, "internal error")
        finally:
            self._open.discard(connection)
            self._service.sessions.close(session)

    async def drain(self, timeout: float) -> None:
        """Ends idle connections at once and busy ones after their reply; returns when none is left or time is up."""
        for connection in list(self._open):
            await connection.close_if_idle()
        deadline = time.monotonic() + timeout
        while self._open and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
