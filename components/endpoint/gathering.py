"""Large messages are received where they are decoded from: uvicorn's websocket, with three copies of the bytes less.

uvicorn hands what the socket gave to the websockets library, which gathers a frame from the pieces, copies it out and
unmasks it into a third place. Three views of 224 px are 450 kB, and these copies a third of what the endpoint costs
beside the model. Here a large binary frame goes from the socket into one array and is unmasked in it. Everything else,
the handshake, small and control frames, fragments, what is no valid frame, goes to the library as before, which judges
it; frames are only told apart here, by their heads (RFC 6455, section 5.2).
"""

import asyncio
import struct
from typing import Any

import numpy as np
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import State

_HEAD_BYTES = 16 * 1024  # of the buffer that frames are told apart in
_LARGE = 2 * _HEAD_BYTES
_FINAL_BINARY, _MASKED = 0x82, 0x80
_MASK_BYTES = 4


class _Protocol(WebSocketsSansIOProtocol):
    """uvicorn's, for which a refusal completes the handshake: it logged an error for each (0.54)."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True


class GatheringProtocol(asyncio.BufferedProtocol):
    """Around uvicorn's protocol. Not derived from it: uvloop asks an `asyncio.Protocol` for no buffer."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._inner = _Protocol(config, server_state, app_state, _loop)
        self._head = memoryview(bytearray(_HEAD_BYTES))
        self._filled = 0  # bytes of the head, or of the large frame
        self._large: _Large | None = None
        self._rest = 0  # bytes of the present frame that the library has yet to get

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def data_received(self, data: bytes) -> None:
        """The handshake, which uvicorn has read as a request over HTTP."""
        self._inner.data_received(data)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes of the socket go."""
        return self._head[self._filled :] if self._large is None else self._large.bytes[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many of them came."""
        self._filled += nbytes
        if self._large is None:
            self._tell_apart()
        elif self._filled == len(self._large.bytes):
            large, self._large, self._filled = self._large, None, 0
            self._inner.handle_bytes(Frame(Opcode.BINARY, large.unmasked()))

    def _tell_apart(self) -> None:
        at = 0
        while at < self._filled:
            if self._rest == 0:
                head = _read_head(self._head[at : self._filled])
                if head is None:
                    break
                size, length = head
                if self._is_large(self._head[at], self._head[at + 1], length):
                    mask = bytes(self._head[at + size - _MASK_BYTES : at + size])
                    # It is longer than the head: what follows there is all its own.
                    begun = self._head[at + size : self._filled]
                    self._large, self._filled = _Large(mask, length), len(begun)
                    self._large.bytes[: len(begun)] = begun
                    return
                self._rest = size + length
            until = min(self._filled, at + self._rest)
            self._rest -= until - at
            self._inner.data_received(bytes(self._head[at:until]))
            at = until
        self._head[: self._filled - at] = self._head[at : self._filled]
        self._filled -= at

    def _is_large(self, first: int, second: int, length: int) -> bool:
        """Whether a frame is one that is received here: large, allowed, and what the library expects next."""
        connection = self._inner.conn
        return (
            first == _FINAL_BINARY
            and second >= _MASKED
            and _LARGE <= length <= self._inner.config.ws_max_size
            and connection.state is State.OPEN
            and connection.current_size is None  # no fragment before it
        )


class _Large:
    """The bytes of a large frame."""

    def __init__(self, mask: bytes, length: int) -> None:
        self._words = np.empty(-(-length // 8), dtype=np.uint64)
        self._mask = np.frombuffer(mask * 2, dtype=np.uint64)
        self.bytes = self._words.data.cast("B")[:length]

    def unmasked(self) -> memoryview:
        np.bitwise_xor(self._words, self._mask, out=self._words)
        return self.bytes


def _read_head(data: memoryview) -> tuple[int, int] | None:
    """The length of a frame's head, mask included, and of what follows it; None when it has not come whole."""
    if len(data) < 2:
        return None
    length, size = data[1] & 0x7F, 2 + (_MASK_BYTES if data[1] & _MASKED else 0)
    extended = {126: 2, 127: 8}.get(length, 0)
    size += extended
    if len(data) < size:
        return None
    if extended:
        (length,) = struct.unpack_from("!H" if extended == 2 else "!Q", data, 2)
    return size, length
