"""The wire format, byte for byte, and what is not decoded."""

import msgpack
import numpy as np
import pytest

from components.endpoint import codec
from lingbot_client.codec import pack, unpack
from lingbot_client.errors import BadReply

# What openpi-client 0.1.2 sends for {"a": np.arange(2, dtype="f4")}.
OPENPI = bytes.fromhex(
    "81a16184c40b5f5f6e6461727261795f5fc3c40464617461c408000000000000803fc4056474797065a33c6634c40573686170659102"
)


def test_the_bytes_are_openpis():
    assert pack({"a": np.arange(2, dtype="f4")}) == OPENPI
    assert np.array_equal(unpack(OPENPI)["a"], [0, 1])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.array(3, np.int16),
        np.array([True, False]),
        np.arange(3, dtype=">f4"),
        np.zeros((0, 14), np.float32),
    ],
)
def test_arrays_come_back_as_they_were_on_both_sides(array):
    for decode in (unpack, codec.unpack):
        back = decode(pack({"a": array}))["a"]
        assert back.shape == array.shape and np.array_equal(back, array)
    assert unpack(pack({"a": array}))["a"].flags.writeable  # a robot may change what it was sent
    assert np.array_equal(unpack(codec.pack({"a": array}))["a"], array)
    assert unpack(pack({"a": np.float32(2.5)}))["a"] == 2.5


@pytest.mark.parametrize("dtype", ["|O", "<U4", "|V8", "<c8"])
def test_only_numbers_are_decoded(dtype):
    frame = msgpack.packb({b"__ndarray__": True, b"data": b"12345678", b"dtype": dtype, b"shape": [1]})
    with pytest.raises(BadReply, match="no part of the protocol"):
        unpack(frame)


@pytest.mark.parametrize("value", [np.array([None]), np.array([1j]), object()])
def test_only_numbers_are_sent(value):
    with pytest.raises(TypeError, match="cannot send"):
        pack({"a": value})
