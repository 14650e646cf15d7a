"""The routes: openpi's websocket, POST /v1/infer, and the probes, on one port."""

import logging
import uuid
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from components.endpoint import codec, json_codec
from components.endpoint.errors import Refused, TooLarge
from components.endpoint.keys import KeyRing
from components.endpoint.service import Service
from components.endpoint.websocket import Connections

MSGPACK_TYPES = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
logger = logging.getLogger("lingbot.endpoint")

_ARRAY_SCHEMA: dict[str, Any] = {
    "oneOf": [
        {"type": "array", "description": "nested lists of numbers"},
        {
            "type": "object",
            "required": ["dtype", "shape", "base64"],
            "properties": {
                "dtype": {"type": "string", "examples": ["uint8", "float32"]},
                "shape": {"type": "array", "items": {"type": "integer"}},
                "base64": {"type": "string"},
            },
        },
    ]
}
_REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One observation in LingBot's or openpi's key names, or {batch: [observation, ...]}.",
    "properties": {
        "observation.images.cam_high": _ARRAY_SCHEMA,
        "observation.state": _ARRAY_SCHEMA,
        "task": {"type": "string", "maxLength": 1000},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    },
}
_REQUEST_BODY = {
    "required": True,
    "content": {"application/json": {"schema": _REQUEST_SCHEMA}, "application/msgpack": {"schema": _REQUEST_SCHEMA}},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text}
    for status, text in {
        400: "not a message of the protocol",
        401: "a key is required",
        409: "the same session sent a newer observation before the model was asked",
        413: "over a size limit",
        415: "neither JSON nor msgpack",
        422: "the observation does not fit the contract",
        429: "this client has enough requests waiting: see Retry-After",
        500: "the policy failed, or gave an answer that may not reach a robot",
        503: "busy or shutting down: see Retry-After",
    }.items()
}


def create_app(service: Service, *, keys: KeyRing | None = None) -> FastAPI:
    """The application of one service. `keys` of None lets everybody in: for loopback only, the server sees to that."""
    app = FastAPI(title="LingBot endpoint", version="1", docs_url=None, redoc_url=None)
    connections = Connections(service)
    app.state.service, app.state.connections = service, connections

    def authorize(headers: Any) -> None:
        if keys is not None:
            keys.check(headers.get("authorization"))

    @app.post("/v1/infer", responses=_ERRORS, openapi_extra={"requestBody": _REQUEST_BODY})
    async def infer(request: Request) -> Response:
        """Actions for one observation. The reply has the format of the request."""
        authorize(request.headers)
        load, dump, media_type, limit = _format_of(request.headers.get("content-type", "application/json"))
        message = load(await _body(request, limit))
        client = request.client.host if request.client is not None else "unknown"
        reply = await service.answer(message, service.sessions.of_request(message, client))
        headers = {
            "X-Model-Name": reply["model_name"],
            "X-Model-Version": reply["model_version"],
            "X-Bundle-Digest": reply["bundle_digest"],
        }
        return Response(dump(reply), media_type=media_type, headers=headers)

    @app.get("/v1/metadata", responses={401: _ERRORS[401]})
    async def metadata(request: Request) -> Response:
        """The contract and the identity of what is served: the first frame of the websocket, as JSON."""
        authorize(request.headers)
        return JSONResponse(service.metadata())

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """openpi's check: the process answers."""
        return "OK\n"

    @app.get("/livez", responses={503: {"description": "the model's thread is stuck: restart"}})
    async def livez() -> Response:
        return _probe("alive", service.alive())

    @app.get("/readyz", responses={503: {"description": "warming up, full or shutting down"}})
    async def readyz() -> Response:
        return _probe("ready", service.ready())

    @app.websocket("/")
    @app.websocket("/v1/realtime/robot/openpi")
    async def robot(socket: WebSocket) -> None:
        try:
            authorize(socket.headers)
            await connections.serve(socket)
        except Refused as refusal:
            await socket.send_denial_response(_refusal(refusal))

    app.add_exception_handler(Refused, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_fault)
    return app


def _format_of(content_type: str) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes], str, int]:
    kind = content_type.split(";")[0].strip().lower()
    if kind in MSGPACK_TYPES:
        return codec.unpack, codec.pack, MSGPACK_TYPES[0], codec.DEFAULT_LIMITS.max_bytes
    if kind == "application/json":
        return json_codec.load, json_codec.dump, kind, json_codec.MAX_JSON_BYTES
    raise HTTPException(415, f"content type '{kind}' is not served: send application/json or application/msgpack")


async def _body(request: Request, limit: int) -> bytes:
    """The body, given up as soon as it passes the limit."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is over the limit of {limit} bytes: send smaller images, base64 or msgpack")
        chunks.append(chunk)
    return b"".join(chunks)


def _probe(name: str, reason: str | None) -> Response:
    return JSONResponse({name: reason is None, "reason": reason}, status_code=200 if reason is None else 503)


def _refusal(refusal: Refused) -> Response:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": str(refusal)}, status_code=refusal.status, headers=headers)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    request.app.state.service.refused(error, "http")
    return _refusal(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=error.headers)


async def _on_fault(request: Request, error: Exception) -> Response:
    """Starlette logs the traceback after this; the client gets a number to ask for."""
    number = uuid.uuid4().hex[:12]
    logger.error("fault %s while answering %s: %s", number, request.url.path, error)
    return JSONResponse({"error": f"internal error {number}: see the server's log"}, status_code=500)
