"""What schemathesis needs to speak msgpack: loaded by it through SCHEMATHESIS_HOOKS."""

import msgpack
import schemathesis


def _plain(value):
    """Numbers that msgpack cannot hold as texts."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return value


@schemathesis.serializer("application/msgpack")
def pack(ctx, value):
    return value if isinstance(value, bytes) else msgpack.packb(_plain(value))


@schemathesis.deserializer("application/msgpack")
def unpack(ctx, response):
    """As JSON Schema sees it: an array of numbers is an array."""

    def array(fields):
        return [] if b"__ndarray__" in fields else fields

    return msgpack.unpackb(response.content, object_hook=array, strict_map_key=False)
