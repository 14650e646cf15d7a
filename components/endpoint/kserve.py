"""The Open Inference Protocol v2 beside openpi's: for platform tools that speak to any model server.

    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/NAME[/versions/VERSION][/ready]
    POST /v2/models/NAME[/versions/VERSION]/infer

The inputs are an observation in LingBot's keys: `observation.images.<camera>` UINT8 [H,W,3], `observation.state` FP32
[S], `task` BYTES [1], and if wished `seed` INT64 [1]; or a batch of them, with one more axis in front of each. The
output is `actions` FP32 [T,A] (or [B,T,A]). Of the request's parameters `session_id`, `episode_id`, `robot_id`,
`request_id` and `deadline_ms` mean what they do on the websocket. A version in the path is answered by that version,
canary or champion; without one, the endpoint routes as it does for any robot.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from components.endpoint.codec import DEFAULT_LIMITS
from components.endpoint.errors import BadObservation, NotServed
from components.endpoint.kserve_codec import BINARY_HEADER, Call, Tensor, read_call, write_answer
from components.endpoint.observations import MAX_BATCH
from components.endpoint.openapi import INFER_ERRORS, KSERVE_BODY, KSERVE_REPLY, refusals
from components.endpoint.requests import Door, read_body, with_header_fields
from components.endpoint.served import Served
from components.endpoint.service import Service
from model.errors import unknown_name

TRANSPORT = "kserve"
_PASSED_ON = ("session_id", "episode_id", "robot_id", "request_id", "deadline_ms")
_IMAGES = "observation.images."
_STATE = "observation.state"
_PLATFORM = "lingbot-vla"
_OUTPUTS = ("actions", "seed")
_MODEL = "/models/{name}"


def kserve_router(service: Service, door: Door) -> APIRouter:
    """The routes of a service, for whom the door lets in."""
    router = APIRouter(prefix="/v2")
    refused = refusals((401, 403, 404))

    @router.get("", responses=refusals((401, 403)))
    async def server(request: Request) -> Response:
        """What this server is, and which extensions it has."""
        door.enter(request)
        return JSONResponse({"name": "lingbot-endpoint", "version": "2", "extensions": ["binary_tensor_data"]})

    @router.get("/health/live", responses={503: {"description": "the model's thread is stuck"}})
    async def live() -> Response:
        return _health("live", service.alive())

    @router.get("/health/ready", responses={503: {"description": "warming up, full or shutting down"}})
    async def ready() -> Response:
        return _health("ready", service.ready())

    async def described(request: Request) -> Response:
        """The tensors that the model takes and gives."""
        door.enter(request)
        _find(service, request)
        return JSONResponse(_described(service))

    async def model_ready(request: Request) -> Response:
        door.enter(request)
        _find(service, request)
        return _health("ready", service.ready())

    async def infer(request: Request) -> Response:
        """Actions for one observation, or for a batch of them."""
        with service.journal.exchange(TRANSPORT) as exchange:
            client = door.enter(request)
            pinned = _find(service, request)
            body = await read_body(request, DEFAULT_LIMITS.max_bytes)
            decoding = time.perf_counter()
            call = read_call(body, request.headers.get(BINARY_HEADER))
            _check_outputs(call)
            exchange.message = with_header_fields(message_of(call, service), request.headers)
            exchange.decode = time.perf_counter() - decoding
            exchange.session = service.sessions.of_request(exchange.message, client, pinned)
            exchange.reply = await service.answer(exchange.message, exchange.session)
            encoding = time.perf_counter()
            response = _answer(call, exchange.reply)
            exchange.encode = time.perf_counter() - encoding
        return response

    errors = {**KSERVE_REPLY, **refusals((*(status for status in INFER_ERRORS if status != 415), 404))}
    name = _parameter("name", service.served.model_name)
    version = _parameter("version", service.served.model_version)
    for path, parameters in ((_MODEL, [name]), (_MODEL + "/versions/{version}", [name, version])):
        extra = {"parameters": parameters}
        router.get(path, responses=refused, openapi_extra=extra)(described)
        ready_responses = {**refused, 503: {"description": "warming up, full or shutting down"}}
        router.get(path + "/ready", responses=ready_responses, openapi_extra=extra)(model_ready)
        router.post(path + "/infer", responses=errors, openapi_extra={**extra, **KSERVE_BODY})(infer)
    return router


def _parameter(name: str, example: str) -> dict[str, Any]:
    """Of a path, for the description."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def message_of(call: Call, service: Service) -> dict[str, Any]:
    """The tensors as a message of the websocket.

    Raises:
        BadObservation: unknown names, or axes that do not fit together.
    """
    known = [_IMAGES + camera.name for camera in service.contract.cameras] + [_STATE, "task", "seed"]
    for tensor in call.inputs:
        if tensor.name not in known:
            raise BadObservation(str(unknown_name("input", tensor.name, known)))
    size = _batch_size(call)
    passed = {name: call.parameters[name] for name in _PASSED_ON if name in call.parameters}
    if size is None:
        return {**{tensor.name: _element(tensor, None, 1) for tensor in call.inputs}, **passed}
    if not 1 <= size <= MAX_BATCH:
        raise BadObservation(f"a batch of {size} observations: send 1 to {MAX_BATCH}")
    return {"batch": [{t.name: _element(t, index, size) for t in call.inputs} for index in range(size)], **passed}


def _batch_size(call: Call) -> int | None:
    """Of the state's first axis when it has two; None for one observation."""
    state = next((tensor for tensor in call.inputs if tensor.name == _STATE), None)
    return state.shape[0] if state is not None and len(state.shape) == 2 else None


def _element(tensor: Tensor, index: int | None, size: int) -> Any:
    """What a tensor says of one observation: number `index` of `size`, or the only one."""
    scalar = tensor.name in ("task", "seed")
    if scalar:
        values = tensor.values if isinstance(tensor.values, list) else tensor.values.ravel().tolist()
        if len(values) not in (1, size):
            raise BadObservation(f"{tensor.name} has {len(values)} values for {size} observations")
        return values[index] if index is not None and len(values) == size else values[0]
    if isinstance(tensor.values, list):
        raise BadObservation(f"{tensor.name} is of BYTES: send numbers")
    if index is None:
        return tensor.values
    if not tensor.shape or tensor.shape[0] != size:
        raise BadObservation(f"{tensor.name} has shape {list(tensor.shape)}, {_STATE} has {size} observations")
    return tensor.values[index]


def _check_outputs(call: Call) -> None:
    for name in call.outputs:
        if name not in _OUTPUTS:
            raise BadObservation(str(unknown_name("output", name, _OUTPUTS)))


def _answer(call: Call, reply: Mapping[str, Any]) -> Response:
    actions = np.asarray(reply["actions"], dtype=np.float32)
    seeds = np.atleast_1d(np.asarray(reply["seed"], dtype=np.int64))
    tensors = {
        "actions": Tensor(name="actions", shape=actions.shape, values=actions),
        "seed": Tensor(name="seed", shape=seeds.shape, values=seeds),
    }
    wanted = call.outputs or dict.fromkeys(_OUTPUTS, call.binary_default)
    head: dict[str, Any] = {"model_name": reply["model_name"], "model_version": reply["model_version"]}
    if call.id is not None:
        head["id"] = call.id
    told = ("bundle_digest", "episode_id", "request_id", "clipped_values")
    head["parameters"] = {name: reply[name] for name in told if name in reply}
    body, header = write_answer(head, [(tensors[name], binary) for name, binary in wanted.items()])
    if header is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={BINARY_HEADER: str(header)})


def _find(service: Service, request: Request) -> Served | None:
    """The version that a path names; None when it names none.

    Raises:
        NotServed
    """
    name, version = request.path_params["name"], request.path_params.get("version")
    if name != service.served.model_name:
        raise NotServed(f"model '{name[:80]}' is not served here: this endpoint serves {service.served.model_name}")
    if version is None:
        return None
    answering = {served.model_version: served for served in _answering(service)}
    if version not in answering:
        raise NotServed(f"version '{version[:40]}' of {name} is not served: {', '.join(answering)} answers")
    return answering[version]


def _answering(service: Service) -> list[Served]:
    """The versions that robots get their actions from."""
    return [served for served in (service.routes.champion, service.routes.canary) if served is not None]


def _described(service: Service) -> dict[str, Any]:
    contract = service.contract
    images = [
        {"name": _IMAGES + camera.name, "datatype": "UINT8", "shape": [camera.height, camera.width, 3]}
        for camera in contract.cameras
    ]
    return {
        "name": service.served.model_name,
        "versions": [served.model_version for served in _answering(service)],
        "platform": _PLATFORM,
        "inputs": [
            *images,
            {"name": _STATE, "datatype": "FP32", "shape": [len(contract.state)]},
            {"name": "task", "datatype": "BYTES", "shape": [1]},
            {"name": "seed", "datatype": "INT64", "shape": [1]},
        ],
        "outputs": [
            {"name": "actions", "datatype": "FP32", "shape": [contract.horizon, len(contract.action)]},
            {"name": "seed", "datatype": "INT64", "shape": [1]},
        ],
    }


def _health(name: str, reason: str | None) -> Response:
    return JSONResponse({name: reason is None, "reason": reason}, status_code=200 if reason is None else 503)
