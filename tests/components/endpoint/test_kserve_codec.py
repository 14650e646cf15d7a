"""Requests of the Open Inference Protocol v2 that are none: each is one sentence, whichever part is wrong."""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from components.endpoint.contract import Contract
from components.endpoint.errors import BadMessage, BadObservation, TooLarge
from components.endpoint.json_codec import MAX_JSON_BYTES
from components.endpoint.kserve import message_of
from components.endpoint.kserve_codec import Call, Tensor, read_call


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(data)) + data


def tensor(**fields):
    return {"name": "task", "shape": [1], "datatype": "BYTES", "data": ["lift"]} | fields


def in_binary(data, size=None, **fields):
    entry = tensor(**fields) | {"parameters": {"binary_data_size": len(data) if size is None else size}}
    del entry["data"]
    return [entry], data


@pytest.mark.parametrize(
    ("inputs", "rest", "words"),
    [
        ([7], b"", "an input must be a JSON object"),
        ([tensor(name="")], b"", "a name of 1 to 128 characters"),
        ([tensor(data="lift")], b"", "task has no data: send a list"),
        ([tensor(shape=[2])], b"", r"shape \[2\] and 1 values"),
        ([tensor(data=["a"] * 65, shape=[65])], b"", "more than 64 texts"),
        ([tensor(datatype="INT64", data=[1.5])], b"", "the data of task does not fit INT64"),
        ([tensor(datatype="INT64", data=[[1], [1, 2]])], b"", "uneven length"),
        ([tensor(parameters={"binary_data_size": 0})], b"", "send one of them"),
        ([tensor()], b"abc", "3 bytes follow the JSON, but .* add up to 0"),
        (*in_binary(text("lift"), shape=[2]), "holds 1 texts, its shape says 2"),
        (*in_binary(b"abc"), "is no list of texts"),
        (*in_binary(text("lift")[:-1]), "ends inside a text"),
        (*in_binary(text(b"\xff")), "is not UTF-8"),
        (*in_binary(text("") * 65, shape=[65]), "is no list of texts"),
        (*in_binary(b"abc", datatype="FP32"), "has 4 bytes, not 3"),
        (*in_binary(b"", size=-1), "binary_data_size of task is -1"),
    ],
)
def test_a_tensor_that_is_none_is_told(inputs, rest, words):
    head = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(BadMessage, match=words):
        read_call(head + rest, str(len(head)) if rest else None)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ([], "the request must be a JSON object"),
        ({"inputs": [tensor()], "outputs": {}}, "outputs must be a list"),
        ({"inputs": [tensor()], "outputs": [{"name": "a"}, {"name": "a"}]}, "a name of its own"),
        ({"inputs": [tensor()], "outputs": ["actions"]}, "an output must be a JSON object"),
        ({"inputs": [tensor()], "parameters": []}, "parameters must be a JSON object"),
    ],
)
def test_a_request_that_is_none_is_told(request_, words):
    with pytest.raises(BadMessage, match=words):
        read_call(json.dumps(request_).encode(), None)


@pytest.mark.parametrize(
    ("body", "refusal", "words"),
    [
        (b"{", BadMessage, "is not JSON"),
        (b"[" * 100_000, BadMessage, "is not JSON"),
        (b" " * (MAX_JSON_BYTES + 1), TooLarge, "send tensors as binary data"),
    ],
    ids=["cut", "deep", "long"],
)
def test_a_body_that_is_no_request_is_told(body, refusal, words):
    with pytest.raises(refusal, match=words):
        read_call(body, None)


def of(*, state=(2, 14), **others):
    """A call with a state of this shape and other tensors: their values."""
    values = {"observation.state": np.zeros(state, np.float32), **others}
    inputs = tuple(Tensor(name=name, shape=np.shape(value), values=value) for name, value in values.items())
    return Call(id=None, inputs=inputs, outputs={}, parameters={})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (of(state=(9, 14)), "a batch of 9 observations: send 1 to 8"),
        (of(state=(0, 14)), "a batch of 0 observations"),
        (of(task=["a"] * 3), "task has 3 values for 2 observations"),
        (of(task=[]), "task has 0 values for 2 observations"),
        (of(seed=np.arange(3)), "seed has 3 values for 2 observations"),
        (of(**{"observation.images.cam_high": ["a"]}), "cam_high is of BYTES: send numbers"),
        (of(**{"observation.images.cam_high": np.zeros((3, 4, 4, 3), np.uint8)}), "observation.state has 2"),
    ],
)
def test_a_batch_whose_axes_do_not_fit_is_told(bundle, call, words):
    with pytest.raises(BadObservation, match=words):
        message_of(call, SimpleNamespace(contract=Contract.of(bundle)))


def test_one_instruction_is_for_the_whole_batch_and_seeds_are_for_each(bundle):
    call = of(task=["lift"], seed=np.array([[3], [4]]))
    batch = message_of(call, SimpleNamespace(contract=Contract.of(bundle)))["batch"]
    assert [(one["task"], one["seed"]) for one in batch] == [("lift", 3), ("lift", 4)]
