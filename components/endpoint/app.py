"""The routes on one port: openpi's websocket, POST /v1/infer, KServe's /v2, the probes, and administration."""

import logging
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from components.endpoint import logs
from components.endpoint.errors import NotServed, Refused
from components.endpoint.journal import Journal
from components.endpoint.keys import ADMIN, KeyRing
from components.endpoint.kserve import kserve_router
from components.endpoint.openapi import INFER_ERRORS, REPLY, REQUEST_BODY, refusals
from components.endpoint.requests import REQUEST_ID_HEADER, Door, format_of, read_body, with_header_fields
from components.endpoint.revocation import serve_while
from components.endpoint.service import Service
from components.endpoint.tracing import Tracer
from components.endpoint.websocket import Connections

OPENPI_PATH = "/v1/realtime/robot/openpi"  # vLLM-Omni's clients connect to it
_TRANSPORT = "http"
logger = logging.getLogger("lingbot.endpoint")


class Following(Protocol):
    """What administration asks of who follows the registry."""

    def look_now(self) -> None: ...

    def status(self) -> dict[str, Any]: ...


def create_app(
    service: Service,
    *,
    keys: KeyRing | None = None,
    follower: Following | None = None,
    tracer: Tracer | None = None,
) -> FastAPI:
    """The application of one service.

    Args:
        service: that answers.
        keys: None lets every program of this machine in: for loopback only, the server sees to that.
        follower: of the registry; None when a folder is served.
        tracer: where requests are traced to, if anywhere.
    """
    app = FastAPI(title="LingBot endpoint", version="1", docs_url=None, redoc_url=None)
    connections = Connections(service)
    app.state.service, app.state.connections = service, connections
    app.state.drain = None  # set by the server that runs this application
    service.journal = Journal(tracer)
    door = Door(keys, service.metrics)

    @app.post("/v1/infer", responses={**REPLY, **refusals(INFER_ERRORS)}, openapi_extra=REQUEST_BODY)
    async def infer(request: Request) -> Response:
        """Actions for one observation. The reply has the format of the request."""
        with service.journal.exchange(_TRANSPORT) as exchange:
            client = door.enter(request)
            load, dump, media_type, limit = format_of(request.headers.get("content-type", "application/json"))
            body = await read_body(request, limit)
            decoding = time.perf_counter()
            exchange.message = with_header_fields(load(body), request.headers)
            exchange.decode = time.perf_counter() - decoding
            exchange.session = service.sessions.of_request(exchange.message, client)
            exchange.reply = await service.answer(exchange.message, exchange.session)
            encoding = time.perf_counter()
            data = dump(exchange.reply)
            exchange.encode = time.perf_counter() - encoding
        return Response(data, media_type=media_type, headers=_identity(exchange.reply))

    @app.get("/v1/metadata", responses=refusals((401, 403)))
    async def metadata(request: Request) -> Response:
        """The contract and the identity of what is served: the first frame of the websocket, as JSON."""
        door.enter(request)
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

    @app.get("/v1/admin/status", responses=refusals((401, 403)))
    async def status(request: Request) -> Response:
        """What is served, what was refused and why, and how old the registry's last answer is."""
        door.enter(request, ADMIN)
        served = {"champion": service.served.identity()} if follower is None else follower.status()
        return JSONResponse({**served, "ready": service.ready() is None, "connections": len(connections)})

    @app.post("/v1/admin/reload", status_code=202, responses=refusals((401, 403, 404)))
    async def reload(request: Request) -> Response:
        """Asks the registry now instead of at the next poll. What it says decides, not this call."""
        door.enter(request, ADMIN)
        if follower is None:
            raise NotServed("a folder is served here: there is no registry to ask")
        follower.look_now()
        return JSONResponse({"status": "the registry is asked now"}, status_code=202)

    @app.post("/v1/admin/drain", status_code=202, responses=refusals((401, 403)))
    async def drain(request: Request) -> Response:
        """Ends the process as SIGTERM does: no reply is lost."""
        name = door.enter(request, ADMIN)
        logger.warning("'%s' asked for a drain", name)
        begin: Callable[[], None] | None = app.state.drain
        assert begin is not None, "the server sets it before it listens"
        begin()
        return JSONResponse({"status": "draining"}, status_code=202)

    @app.websocket("/")
    @app.websocket(OPENPI_PATH)
    async def robot(socket: WebSocket) -> None:
        try:
            door.enter(socket)
            serving = connections.serve(socket)
            await (serving if keys is None else serve_while(partial(door.admits, socket), socket, serving))
        except Refused as refusal:
            await socket.send_denial_response(_refusal(refusal))

    @app.websocket("/{path:path}")
    async def nobody(socket: WebSocket, path: str) -> None:
        """Unasked, starlette would answer 403, which sends people to look for a key."""
        refusal = NotServed(f"there is no websocket at /{path[:80]}: connect to /, or to {OPENPI_PATH}")
        await socket.send_denial_response(_refusal(refusal))

    app.include_router(kserve_router(service, door))
    app.add_exception_handler(Refused, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_fault)
    return app


def _identity(reply: dict[str, Any] | Any) -> dict[str, str]:
    """Who answered, as headers."""
    names = {
        "X-Model-Name": "model_name",
        "X-Model-Version": "model_version",
        "X-Model-Alias": "model_alias",
        "X-Bundle-Digest": "bundle_digest",
        REQUEST_ID_HEADER: "request_id",
    }
    return {header: reply[key] for header, key in names.items() if reply.get(key, "").isascii() and key in reply}


def _probe(name: str, reason: str | None) -> Response:
    return JSONResponse({name: reason is None, "reason": reason}, status_code=200 if reason is None else 503)


def _refusal(refusal: Refused) -> Response:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": str(refusal)}, status_code=refusal.status, headers=headers)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    request.app.state.service.refused(error, _TRANSPORT)
    return _refusal(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=error.headers)


async def _on_fault(request: Request, error: Exception) -> Response:
    """Starlette logs the traceback after this; the client gets a number to ask for."""
    number = uuid.uuid4().hex[:12]
    request.app.state.service.metrics.count("faults", transport=_TRANSPORT)
    with logs.bound(**logs.carried(error)):
        logger.error("fault %s while answering %s: %s", number, request.url.path, error)
    return JSONResponse({"error": f"internal error {number}: see the server's log"}, status_code=500)
