"""Mutated messages: bytes of valid ones changed blindly, and messages of valid structure with hostile values.

Every message follows from a seed, so that one that breaks something can be made again: `mutated(seed, corpus)`.
"""

import random
import struct

import msgpack
import numpy as np

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
DTYPES = ("<f4", "|u1", "<i8", "|O", "V8", "<c8", "<U4", "f4", ">f8", "|b1", "<M8[s]", "", 7, None, "<f4" * 50)
NUMBERS = (0, 1, -1, 14, 2**31, 2**32 - 1, 2**63, -(2**63), 2**64 - 1, float("nan"), float("inf"), 1e308)
KEYS = ("observation.state", "observation/image", "images", "batch", "reset", "robo_name", "seed", 3, b"x", "task")
HEADS = bytes(range(0x80, 0xE0))  # the types of msgpack


def corpus(observation):
    """Valid messages of every kind that the endpoint takes, packed."""
    from components.endpoint.codec import pack

    small = dict(observation)
    for key, value in small.items():
        if isinstance(value, np.ndarray) and value.ndim == 3:
            small[key] = value[:16, :16].copy()
    openpi = {
        "observation/image": small["observation.images.cam_high"],
        "observation/left_wrist_image": small["observation.images.cam_left_wrist"],
        "observation/right_wrist_image": small["observation.images.cam_right_wrist"],
        "observation/state": small["observation.state"],
        "prompt": "lift the cube",
    }
    extras = {"episode_id": "e", "robot_id": "r", "deadline_ms": 900.0, "request_id": "q", "traceparent": "00-1-2-3"}
    running = {
        "prev_chunk_left_over": np.zeros((5, 14), dtype=np.float32),
        "inference_delay": np.int64(1),
        "execution_horizon": 4,
    }
    messages = [small, openpi, small | extras, small | running, {"batch": [small, small]}, {"reset": True}, {}]
    messages += [{"reset": True, "robo_name": "aloha_sim", "path_to_pi_model": "", "endpoint": "reset"}]
    messages += [small | {"prompt": small["task"], "deadline_ms": 500, "session_id": "s"}]
    return [pack(message) for message in messages]


def mutated(seed, messages):
    """One hostile message."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(messages))
    if rng.random() < 0.35:
        return bytes(_pack(_hostile(rng, 0)))
    if rng.random() < 0.3:
        return _changed_value(rng, bytes(data))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        _change_bytes(rng, data, messages)
    return bytes(data)


def _change_bytes(rng, data, messages):
    place = rng.randrange(len(data) + 1)
    kind = rng.randrange(7)
    if kind == 0 and place < len(data):
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1 and place < len(data):
        data[place] = rng.choice(HEADS)
    elif kind == 2:
        del data[place : place + rng.choice((1, 4, 100, len(data)))]
    elif kind == 3:
        other = rng.choice(messages)
        start = rng.randrange(len(other))
        data[place:place] = other[start : start + rng.choice((1, 8, 200))]
    elif kind == 4:
        data[place : place + 4] = struct.pack(">I", rng.choice((0, 1, 2**16, 2**31 - 1, 2**32 - 1)))
    elif kind == 5:
        data[place:place] = bytes([rng.choice((0x91, 0x81))]) * rng.choice((10, 600, 2000))  # depth
    else:
        data.extend(rng.randbytes(rng.choice((1, 64))))


def _changed_value(rng, data):
    """A valid message of which one value is another: what blind changes of bytes seldom reach."""
    message = msgpack.unpackb(data, strict_map_key=False)
    place = message
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = rng.choice(list(keys))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        if rng.random() < 0.15 and isinstance(place, dict):
            del place[key]
        else:
            place[key] = _hostile(rng, 2)
        break
    return bytes(_pack(message))


def _hostile(rng, depth):
    """A value of any type, among them arrays that lie about themselves."""
    kind = rng.randrange(10 if depth < 4 else 5)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(
            ("", "observation.state", "task", "\x00", "☃" * rng.choice((1, 500, 70_000)), "../../etc/passwd")
        )
    if kind == 2:
        return rng.randbytes(rng.choice((0, 1, 56, 5000)))
    if kind == 3:
        return rng.choice((None, True, False))
    if kind == 4:
        return msgpack.ExtType(rng.randrange(128), rng.randbytes(rng.choice((0, 4, 300))))
    if kind == 5:
        size = rng.choice((0, 1, 5, 5000))
        return [rng.choice(NUMBERS)] * size if size > 10 else [_hostile(rng, depth + 1) for _ in range(size)]
    if kind == 6:
        keys = (
            "observation.state",
            "observation/image",
            "images",
            "batch",
            "reset",
            "robo_name",
            "seed",
            3,
            b"x",
            "task",
        )
        return {rng.choice(keys): _hostile(rng, depth + 1) for _ in range(rng.choice((0, 1, 4)))}
    if kind == 7:
        shape = rng.choice(([14], [16, 16, 3], [0], [], [2**40], [-1], [2**62, 4], [1] * 40, "14", [1.5], None))
        return {
            ARRAY: True,
            b"data": rng.randbytes(rng.choice((0, 56, 768))),
            b"dtype": rng.choice(DTYPES),
            b"shape": shape,
        }
    if kind == 8:  # arrays that are what they say, where none is expected
        values = np.zeros(rng.choice(((2,), (14,), (16, 16, 3), ())), dtype=rng.choice(("<f4", "|u1", "|b1")))
        shape = list(values.shape)
        return {ARRAY: True, b"data": values.tobytes(), b"dtype": values.dtype.str, b"shape": shape}
    return {SCALAR: True, b"data": rng.choice(NUMBERS), b"dtype": rng.choice(DTYPES)}


def _pack(value):
    try:
        return msgpack.packb(value, use_bin_type=True)
    except (OverflowError, ValueError):
        return b"\xc1"
