"""What the OpenAPI description says beyond what FastAPI reads from the routes: bodies, replies, refusals."""

from collections.abc import Iterable
from typing import Any

_ARRAY: dict[str, Any] = {
    "oneOf": [
        {"type": "array", "description": "nested lists of numbers", "items": {}},
        {
            "type": "object",
            "required": ["dtype", "shape", "base64"],
            "additionalProperties": False,
            "properties": {
                "dtype": {"type": "string", "examples": ["uint8", "float32"]},
                "shape": {"type": "array", "items": {"type": "integer"}},
                "base64": {"type": "string"},
            },
        },
    ]
}
_OBSERVATION: dict[str, Any] = {
    "type": "object",
    "description": "One observation in LingBot's or openpi's key names, {batch: [observation, ...]}, or {reset: true}.",
    "properties": {
        "observation.images.cam_high": _ARRAY,
        "observation.state": _ARRAY,
        "task": {"type": "string", "maxLength": 1000},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
        "episode_id": {"type": "string", "maxLength": 128},
        "session_id": {"type": "string", "maxLength": 128},
        "deadline_ms": {"type": "number", "exclusiveMinimum": 0},
    },
}
_REPLY: dict[str, Any] = {
    "type": "object",
    "required": ["action", "actions", "model_name", "model_version", "bundle_digest", "request_id"],
    "properties": {
        "actions": {
            "oneOf": [{"type": "array"}, {"type": "null"}],
            "description": "(horizon, joints); null on a reset",
        },
        "model_version": {"type": "string"},
    },
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "one sentence: what is wrong, and the fix"}},
}
_SENTENCES = {
    400: "not a message of the protocol",
    401: "a key is required",
    403: "the key may not do this, or a page in a browser asked an endpoint without keys",
    404: "this model or version is not served here",
    408: "the body did not arrive in time",
    409: "the same session sent a newer observation before the model was asked",
    413: "over a size limit",
    415: "neither JSON nor msgpack",
    422: "the observation does not fit the contract",
    429: "this client has enough requests waiting: see Retry-After",
    500: "the policy failed, or gave an answer that may not reach a robot",
    503: "busy or shutting down: see Retry-After",
}
_BODY = {"application/json": {"schema": _OBSERVATION}, "application/msgpack": {"schema": _OBSERVATION}}
REQUEST_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _BODY}}
REPLY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the actions, or the acknowledgement of a reset, in the format of the request",
        "content": {"application/json": {"schema": _REPLY}, "application/msgpack": {"schema": _REPLY}},
    }
}
INFER_ERRORS = (400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503)

_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 128},
        "shape": {"type": "array", "maxItems": 6, "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
        "parameters": {"type": "object"},
    },
}
_KSERVE_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
}
_KSERVE_REPLY: dict[str, Any] = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {"outputs": {"type": "array", "items": _TENSOR}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
KSERVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _KSERVE_REQUEST}, "application/octet-stream": _BINARY},
    }
}
KSERVE_REPLY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the outputs; as octets when any was asked for as binary",
        "content": {"application/json": {"schema": _KSERVE_REPLY}, "application/octet-stream": _BINARY},
    }
}


def refusals(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Descriptions of refusals, for a route's `responses`."""
    content = {"application/json": {"schema": _ERROR}}
    return {status: {"description": _SENTENCES[status], "content": content} for status in statuses}
