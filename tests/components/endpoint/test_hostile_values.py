"""Values of a type that nobody expects at their place, each of which was once a fault or a waste of memory."""

import json
import tracemalloc

import numpy as np
import pytest

from components.endpoint.codec import array_of_list
from components.endpoint.contract import Contract
from components.endpoint.errors import BadMessage, BadObservation, Refused
from components.endpoint.kserve_codec import read_call
from components.endpoint.observations import check_reset, is_reset, read_requests
from components.endpoint.realtime import read_running

PAIR = np.array([1.0, 2.0], dtype=np.float32)
# 4,096 elements, of which one is long: as wide an array for each of them would take 1 GiB.
WIDE = ["1"] * 4000 + ["2" * 65_000]


@pytest.fixture(scope="module")
def contract(bundle):
    return Contract.of(bundle)


@pytest.mark.parametrize("value", [PAIR, np.zeros(0), [PAIR], {"a": 1}, "yes", 2.0, b"1"])
def test_a_reset_is_true_and_nothing_else(value):
    assert not is_reset({"reset": value}) and not is_reset({"endpoint": value})
    assert is_reset({"reset": True}) and is_reset({"reset": np.True_}) and is_reset({"endpoint": "reset"})


@pytest.mark.parametrize("key", ["robo_name", "path_to_pi_model"])
@pytest.mark.parametrize("value", [PAIR, ["aloha_sim"], {"a": 1}, 7])
def test_a_reset_s_fields_of_any_type_are_refused(contract, key, value):
    with pytest.raises(BadObservation, match=key):
        check_reset({"reset": True, key: value}, contract)


@pytest.mark.parametrize("fields", [{"task": PAIR, "prompt": PAIR}, {"task": "lift", "prompt": PAIR}, {"task": [1]}])
def test_an_instruction_is_a_text(contract, observation, fields):
    with pytest.raises(BadObservation, match="must be a text"):
        read_requests({**{k: v for k, v in observation.items() if k != "task"}, **fields}, contract)


def peak_of(read):
    """Bytes that a refusal took at most."""
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="no numbers|does not fit"):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_long_text_in_a_list_costs_no_memory(contract, observation):
    state = {**observation, "observation.state": WIDE}
    tensor = {"name": "observation.state", "shape": [len(WIDE)], "datatype": "FP32", "data": WIDE}
    body = json.dumps({"inputs": [tensor]}).encode()
    running = {**observation, "prev_chunk_left_over": WIDE}
    for read in (
        lambda: read_requests(state, contract),
        lambda: read_call(body, None),
        lambda: read_running(running, contract, None),
    ):
        assert peak_of(read) < 2**22


@pytest.mark.parametrize("datatype", [{"a": 1}, ["FP32"], None, 7])
def test_a_datatype_is_a_text(datatype):
    body = json.dumps({"inputs": [{"name": "seed", "shape": [1], "datatype": datatype, "data": [1]}]}).encode()
    with pytest.raises(BadMessage, match="datatype of seed"):
        read_call(body, None)


@pytest.mark.parametrize(
    "value", [[1, [2]], [[1], [2, 3]], ["1"], [None], [{}], [2**70, 1], [[[[[[[1]]]]]]], [PAIR], [b"1"]]
)
def test_a_list_that_is_no_array_is_none(value):
    assert array_of_list(value) is None


@pytest.mark.parametrize(
    "value", [[], [[], []], [1, 2], [[1.5, 2], [3, 4]], [True], [[[1]], [[2]]], [np.float32(1), 2]]
)
def test_a_list_of_numbers_is_the_array_that_numpy_makes(value):
    found, expected = array_of_list(value), np.asarray(value)
    assert found is not None and found.dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(found, expected)


def test_a_refusal_is_one_line_whatever_it_quotes():
    refusal = BadMessage("key 'a\nERROR all is lost\x1b[31m" + "x" * 10**6)
    assert "\n" not in str(refusal) and "\x1b" not in str(refusal) and len(str(refusal)) < 2000
