"""The wire format: what openpi-client sends and expects, and what a hostile sender may not do."""

import contextlib
import random
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from components.endpoint.codec import Limits, pack, unpack
from components.endpoint.errors import BadMessage, TooLarge
from model.errors import UserError

DTYPES = ["u1", "<i2", ">i4", "<i8", "<f2", "<f4", ">f4", "<f8", "b1"]


def array_message(**changes):
    fields = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    fields.update({key.encode(): value for key, value in changes.items()})
    return msgpack.packb(fields)


def test_bytes_are_those_of_openpi_client():
    start, rest = "81a16184c40b5f5f6e6461727261795f5fc3c40464617461", "c408000000000000803fc4056474797065a33c6634"
    expected = start + rest + "c40573686170659102"
    assert pack({"a": np.arange(2, dtype="<f4")}).hex() == expected


@settings(max_examples=200, deadline=None)
@given(
    npst.arrays(st.sampled_from([np.dtype(d) for d in DTYPES]), npst.array_shapes(min_dims=0, max_dims=4, max_side=4))
)
def test_arrays_round_trip(array):
    back = unpack(pack({"x": array}))["x"]
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


def test_arrays_share_nothing_with_the_bytes_that_they_came_in():
    sent = np.arange(1000, dtype=np.float64)
    data = bytearray(pack({"x": sent}))
    back = unpack(memoryview(data))["x"]
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(back, sent)


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(-3), np.bool_(True), np.uint8(255)])
def test_numpy_scalars_round_trip(value):
    back = unpack(pack({"x": value}))["x"]
    assert back == value and back.dtype == value.dtype


def test_fortran_order_and_slices_are_sent_in_c_order():
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(unpack(pack(array)), array)
    np.testing.assert_array_equal(unpack(pack(array[:, ::2])), array[:, ::2])


def test_plain_values_round_trip():
    message = {"task": "lift", "none": None, "list": [1, 2.5, "x"], "nested": {"a": {"b": True}}, "bytes": b"\x00"}
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("array", [np.array([object()]), np.array([1j]), np.array(["x"]), np.zeros(1, "V4")])
def test_pack_refuses_other_dtypes(array):
    with pytest.raises(TypeError):
        pack(array)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "O"}, "dtype 'O' is not allowed"),
        ({"dtype": "|O8"}, "not allowed"),
        ({"dtype": "<U2"}, "not allowed"),
        ({"dtype": "V8"}, "not allowed"),
        ({"dtype": "c8"}, "not allowed"),
        ({"dtype": "f4,f4"}, "not allowed"),
        ({"dtype": "<f4\n"}, "not allowed"),
        ({"dtype": [["a", "O"]]}, "not allowed"),
        ({"dtype": b"<f4"}, "not allowed"),
        ({"shape": [3]}, "has 12 bytes, not 8"),
        ({"shape": [-1]}, "is not a list of"),
        ({"shape": [2.0]}, "is not a list of"),
        ({"shape": [True, 2]}, "is not a list of"),
        ({"shape": [2**63, 2**63]}, "is not a list of"),
        ({"shape": [1] * 7}, "is not a list of"),
        ({"shape": 2}, "is not a list of"),
        ({"shape": [0, 2**40]}, "has 0 bytes"),
        ({"data": "text"}, "must be bytes"),
        ({"extra": 1}, "exactly the keys"),
    ],
)
def test_bad_arrays_are_refused(changes, words):
    with pytest.raises(BadMessage, match=words):
        unpack(array_message(**changes))


@pytest.mark.parametrize(
    "fields",
    [
        {b"__npgeneric__": True, b"data": 300, b"dtype": "u1"},
        {b"__npgeneric__": True, b"data": "7", b"dtype": "<f4"},
        {b"__npgeneric__": True, b"data": [1], b"dtype": "<i4"},
        {b"__npgeneric__": True, b"data": 1, b"dtype": "O"},
        {b"__npgeneric__": True, b"data": 1},
    ],
)
def test_bad_scalars_are_refused(fields):
    with pytest.raises(BadMessage):
        unpack(msgpack.packb(fields))


def test_bool_bytes_are_read_as_not_zero():
    fields = {b"__ndarray__": True, b"data": bytes([0, 1, 2, 255]), b"dtype": "|b1", b"shape": [4]}
    back = unpack(msgpack.packb(fields))
    assert back.view(np.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x02",
        msgpack.packb(msgpack.ExtType(5, b"code")),
        msgpack.packb({1: 2}),
        b"\xa1\xff",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 2000,
    ],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(BadMessage):
        unpack(data)


def test_limits_of_bytes_elements_and_depth():
    limits = Limits(max_bytes=1000, max_elements=50, max_depth=3)
    with pytest.raises(TooLarge, match="1001 bytes is over the limit of 1000"):
        unpack(bytes(1001), limits)
    with pytest.raises(BadMessage, match="more than 50 elements"):
        unpack(msgpack.packb([[0] * 10] * 6), limits)
    unpack(msgpack.packb([[[1]]]), limits)
    with pytest.raises(BadMessage, match="deeper than 3"):
        unpack(msgpack.packb([[[[1]]]]), limits)


def test_a_small_message_cannot_ask_for_much_memory():
    nested_claims = b"\xdc\x04\x00" * 900
    tracemalloc.start()
    with pytest.raises(BadMessage):
        unpack(nested_claims)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 1024 * 1024


def test_mutated_frames_never_escape():
    """4,000 damaged copies of a real observation: each is either read or refused, nothing else happens."""
    rng = random.Random(0)
    original = pack(
        {
            "observation.images.cam_high": np.full((4, 4, 3), 7, dtype=np.uint8),
            "observation.state": np.arange(14, dtype=np.float32),
            "task": "lift the cube",
            "seed": np.int64(3),
            "nested": {"a": [1, 2, {"b": None}]},
        }
    )
    interesting = [0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC6, 0xC7, 0xD9, 0xDC, 0xDD, 0xDE, 0xDF, 0xFF]
    read = refused = 0
    for _ in range(4000):
        data = bytearray(original)
        for _ in range(rng.randint(1, 4)):
            position = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[position] = rng.choice(interesting)
                case 1:
                    data[position] ^= 1 << rng.randrange(8)
                case 2:
                    del data[position : position + rng.randint(1, 8)]
                case _:
                    data[position:position] = bytes(rng.choices(interesting, k=rng.randint(1, 4)))
            if not data:
                break
        try:
            unpack(bytes(data))
            read += 1
        except UserError:
            refused += 1
    assert read > 100 and refused > 1000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_escape(data):
    with contextlib.suppress(UserError):
        unpack(data)
