"""uvicorn, ended in the order that loses no reply.

uvicorn closes websockets when it is told to stop, and drops the replies that are being computed. Here SIGTERM first
makes the service refuse newcomers (`/readyz` turns 503), lets robots end their episodes and each connection send the
reply it owes, closes with 1012 (service restart), and only then tells uvicorn to stop. HTTP replies are finished by
uvicorn itself.
"""

import asyncio
import gc
import logging
import math
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from socket import socket
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from components.endpoint.codec import DEFAULT_LIMITS
from components.endpoint.gathering import GatheringProtocol
from components.endpoint.heads import HeadLimitingProtocol

logger = logging.getLogger("lingbot.endpoint")
# Time for clients to answer the close frame before their sockets are closed under them.
_GOODBYE_SECONDS = 1.0


class DrainingServer(uvicorn.Server):
    """Serves an app of `create_app`; warms the model up before it accepts, and drains before it stops."""

    def __init__(
        self,
        app: FastAPI,
        *,
        drain_seconds: float,
        on_ready: Callable[[], None],
        episode_seconds: float = 0.0,
        hand_over: bool = False,
        background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            app: of `create_app`.
            drain_seconds: how long a drain may take in all.
            on_ready: called when robots can connect.
            episode_seconds: how long robots may go on with their episodes; then each is closed after its next reply.
            hand_over: stop listening when the drain begins, for an address that another process listens on too;
                else newcomers, and the probes, get their 503 until the end.
            background: what runs beside, from the start to the end.
            tls: for https and wss.
        """
        super().__init__(
            uvicorn.Config(
                app,
                http=HeadLimitingProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                ws=cast(Any, GatheringProtocol),  # uvicorn's type has no protocols with buffers of their own
                ws_max_size=DEFAULT_LIMITS.max_bytes,
                ws_per_message_deflate=False,  # openpi's clients do not compress, and camera images hardly shrink
                ws_ping_interval=20.0,
                ws_ping_timeout=60.0,  # a client that computes between two calls may answer pings late
                # Longer than clients and balancers keep an idle connection (60 s): where the server closes it first, by
                # uvicorn's default after 5 s, the next question may be on its way and is answered by a reset.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, math.ceil(drain_seconds)),
                ssl_context_factory=None if tls is None else lambda *_: tls,
            )
        )
        self._service, self._connections = app.state.service, app.state.connections
        self._drain_seconds, self._episode_seconds = drain_seconds, episode_seconds
        self._on_ready, self._hand_over, self._background = on_ready, hand_over, background
        app.state.drain = self.drain  # for an administrator
        self._beside: list[asyncio.Task[None]] = []
        self._running_loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self._running_loop = asyncio.get_running_loop()
        await self._service.warm_up()
        # What is loaded now stays. Looking through it for garbage again and again stopped everything for 230 ms a time.
        gc.collect()
        gc.freeze()
        self._beside = [asyncio.create_task(run()) for run in (self._service.keep_house, *self._background)]
        for task in self._beside:
            task.add_done_callback(_report)
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: stop now. The signal is not raised again at the end: a drained exit is 0."""
        if self._running_loop is None or self._service.draining:
            self.should_exit = True
            return
        self._running_loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Starts the drain, on the event loop."""
        if self._drain is None:
            self._service.draining = True
            self._drain = asyncio.get_running_loop().create_task(self._drain_and_stop())

    async def _drain_and_stop(self) -> None:
        end = time.monotonic() + self._drain_seconds
        try:
            if self._hand_over:
                for server in self.servers:
                    server.close()
            await self._connections.drain(self._episode_seconds, self._drain_seconds)
            if len(self._connections):
                logger.error("%d connections did not finish in %.0f s", len(self._connections), self._drain_seconds)
            goodbye = time.monotonic() + _GOODBYE_SECONDS
            while self.server_state.connections and time.monotonic() < goodbye:
                await asyncio.sleep(0.02)
        finally:
            # Replies over HTTP were computed meanwhile: they get what is left, not the whole time once more.
            self.config.timeout_graceful_shutdown = max(1, math.ceil(end - time.monotonic()))
            self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await super().shutdown(sockets)
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        self._service.runner.close()
        gc.unfreeze()


def _report(task: "asyncio.Task[None]") -> None:
    """What runs beside ends with the server only: anything else is a fault that somebody must see."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("what runs beside the server broke", exc_info=error)
