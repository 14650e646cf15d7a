"""A websocket is let in once and stays: here it ends when its key does."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

CLOSE_POLICY = 1008
_LOOK_SECONDS = 1.0
logger = logging.getLogger("lingbot.endpoint")


async def serve_while(admitted: Callable[[], bool], socket: WebSocket, serving: Coroutine[Any, Any, None]) -> None:
    """Runs `serving` to its end, or until `admitted` says no: then the connection is closed with 1008, within a second.

    Raises:
        Whatever `serving` raises.
    """
    task = asyncio.create_task(serving)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK_SECONDS))[0]:
            if not admitted():
                break
    finally:
        task.cancel()  # no effect on one that has ended
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
        return
    logger.warning("a robot's key was revoked: its connection is ended")
    if socket.application_state is WebSocketState.CONNECTED:  # not when the server has said goodbye before
        with contextlib.suppress(WebSocketDisconnect):  # the robot has left
            await socket.close(CLOSE_POLICY, "the key was revoked: connect again with another one")
