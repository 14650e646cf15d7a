"""What HTTP routes share: who asks, the body, and the format it is in."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from starlette.requests import HTTPConnection

from components.endpoint import codec, json_codec
from components.endpoint.errors import Forbidden, Refused, TooLarge, TooSlow, UnknownType
from components.endpoint.keys import INFER, KeyRing
from components.endpoint.metrics import Metrics

MSGPACK_TYPES = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
BODY_SECONDS = 30.0  # 32 MiB at 10 Mbit/s
REQUEST_ID_HEADER = "X-Request-Id"


class Door:
    """Lets in who has a key for what they want. Without keys (loopback alone) it lets in every program of this machine,
    but no page in its browser: that could come from anywhere."""

    def __init__(self, keys: KeyRing | None, metrics: Metrics) -> None:
        self._keys, self._metrics = keys, metrics

    def enter(self, connection: HTTPConnection, scope: str = INFER) -> str:
        """The client's name: its key's, or its address.

        Raises:
            Unauthorized, Forbidden
        """
        if self._keys is None:
            return self._without_keys(connection, scope)
        try:
            return self._keys.check(connection.headers.get("authorization"), scope).name
        except Refused as refusal:
            self._metrics.count("unauthorized", reason="scope" if refusal.status == 403 else "key")
            raise

    def admits(self, connection: HTTPConnection, scope: str = INFER) -> bool:
        """Whether who was let in would be let in now: its key may have been revoked since."""
        try:
            self.enter(connection, scope)
        except Refused:
            return False
        return True

    def _without_keys(self, connection: HTTPConnection, scope: str) -> str:
        if scope != INFER:
            self._metrics.count("unauthorized", reason="scope")
            raise Forbidden(f"{scope} needs a key of that scope, and this endpoint runs without keys")
        if "origin" in connection.headers:
            self._metrics.count("unauthorized", reason="origin")
            raise Forbidden("a page in a browser may not use an endpoint that runs without keys")
        return connection.client.host if connection.client is not None else "unknown"


async def read_body(request: Request, limit: int) -> bytes:
    """The body, given up as soon as it passes the limit.

    Raises:
        TooLarge, TooSlow
    """
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the body is over the limit of {limit} bytes: send smaller images or msgpack")
                chunks.append(chunk)
    except TimeoutError as error:
        raise TooSlow(f"the body did not arrive within {BODY_SECONDS:.0f} s") from error
    return b"".join(chunks)


def format_of(content_type: str) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes], str, int]:
    """Reader, writer, content type of the reply and the limit in bytes, by the content type of a request.

    Raises:
        UnknownType
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind in MSGPACK_TYPES:
        return codec.unpack, codec.pack, MSGPACK_TYPES[0], codec.DEFAULT_LIMITS.max_bytes
    if kind == "application/json":
        return json_codec.load, json_codec.dump, kind, json_codec.MAX_JSON_BYTES
    raise UnknownType(f"content type '{kind[:80]}' is not served: send application/json or application/msgpack")


def with_header_fields(message: Any, headers: Mapping[str, str]) -> Any:
    """The message with what its headers say beside it: a request's id and its place in a trace."""
    if not isinstance(message, dict):
        return message
    for header, key in ((REQUEST_ID_HEADER, "request_id"), ("traceparent", "traceparent")):
        value = headers.get(header)
        if value is not None and key not in message:
            message[key] = value
    return message
