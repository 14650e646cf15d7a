"""Real-time chunking over the wire: an answer that goes on from what its robot is executing."""

import numpy as np
import pytest

from components.endpoint.contract import Contract
from components.endpoint.errors import BadObservation
from components.endpoint.realtime import read_running
from model.evaluation.actors import Ahead
from model.evaluation.served import going_on
from model.inference import Observation, Running


@pytest.fixture(scope="module")
def contract(bundle):
    return Contract.of(bundle)


@pytest.fixture
def left(contract):
    return np.linspace(0.2, 0.4, 6 * 14, dtype=np.float32).reshape(6, 14)


def test_what_is_left_is_held_to_the_length_of_a_chunk(contract, left):
    running = read_running({"prev_chunk_left_over": left, "inference_delay": 2}, contract, None)
    assert running.actions.shape == (contract.horizon, 14) and running.actions.dtype == np.float32
    np.testing.assert_array_equal(running.actions[:6], left)
    np.testing.assert_array_equal(running.actions[6:], np.repeat(left[-1:], 4, axis=0))
    assert (running.delay, running.free) == (2, 4)  # the pull ends where the chunk ended: 6 of 10


def test_lerobots_horizon_is_counted_from_the_front_and_reaches_no_further_than_the_chunk(contract, left):
    message = {"prev_chunk_left_over": left.tolist(), "execution_horizon": 4}
    assert read_running(message, contract, None).free == 6
    assert read_running(message | {"execution_horizon": 9}, contract, None).free == 4
    whole = np.zeros((10, 14))
    assert read_running({"prev_chunk_left_over": whole}, contract, None).free == 1  # something is always new


def test_an_offset_counts_in_the_last_answer(contract):
    last = np.arange(140, dtype=np.float32).reshape(10, 14)
    running = read_running({"prev_chunk_offset": 3, "inference_delay": 1}, contract, last)
    np.testing.assert_array_equal(running.actions[:7], last[3:])
    assert (running.delay, running.free) == (1, 3)
    with pytest.raises(BadObservation, match="there was none"):
        read_running({"prev_chunk_offset": 3}, contract, None)


@pytest.mark.parametrize("offset", [0, 3, 19])
def test_an_answer_of_another_length_is_gone_on_from_as_far_as_both_go(contract, offset):
    """As when a recording is replayed through a candidate with other chunks."""
    last = np.arange(20 * 14, dtype=np.float32).reshape(20, 14)
    running = read_running({"prev_chunk_offset": offset}, contract, last)
    rows = min(contract.horizon, 20 - offset)
    np.testing.assert_array_equal(running.actions[:rows], last[offset : offset + rows])
    assert running.actions.shape == (contract.horizon, 14)
    with pytest.raises(BadObservation, match="from 0 to 4"):
        read_running({"prev_chunk_offset": 5}, contract, last[:5])


@pytest.mark.parametrize(("period", "delay"), [(3, 0), (3, 3), (5, 5), (6, 2), (9, 1)])
def test_a_served_evaluation_asks_what_one_in_process_asks(contract, period, delay):
    """`PolicyActor` gives the model `delay` and `period` themselves."""
    ahead = Ahead(actions=np.ones((contract.horizon - period, 14), np.float32), delay=delay, period=period)
    running = read_running(going_on(ahead, contract.horizon), contract, None)
    assert (running.delay, running.free) == (delay, period)


def test_without_a_running_chunk_there_is_none(contract):
    assert read_running({"task": "x", "inference_delay": None}, contract, None) is None


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"inference_delay": 1}, "send one of them"),
        ({"prev_chunk_left_over": np.zeros((2, 14)), "prev_chunk_offset": 1}, "send one of them"),
        ({"prev_chunk_left_over": np.zeros((2, 13))}, "rows of 14"),
        ({"prev_chunk_left_over": np.zeros((11, 14))}, "1 to 10 rows"),
        ({"prev_chunk_left_over": np.zeros((0, 14))}, "1 to 10 rows"),
        ({"prev_chunk_left_over": [["a"] * 14]}, "values that are no numbers"),
        ({"prev_chunk_left_over": [[1], [1, 2]]}, "uneven"),
        ({"prev_chunk_left_over": np.full((2, 14), np.nan)}, "not finite"),
        ({"prev_chunk_left_over": np.zeros((4, 14)), "inference_delay": 5}, "from 0 to 4"),
        ({"prev_chunk_left_over": np.zeros((4, 14)), "inference_delay": 1.0}, "whole number"),
        ({"prev_chunk_left_over": np.zeros((4, 14)), "execution_horizon": 0}, "from 1 to 10"),
        ({"prev_chunk_offset": 10}, "from 0 to 9"),
    ],
)
def test_what_does_not_fit_is_one_sentence(contract, message, words):
    with pytest.raises(BadObservation, match=words):
        read_running(message, contract, np.zeros((10, 14), np.float32))


def test_a_robot_is_answered_with_what_goes_on_from_its_chunk(start, bundle, observation, robot):
    server = start(bundle)
    with robot(server.host) as client:
        assert "prev_chunk_left_over" in client.metadata["real_time_chunking"]
        first = client.ask(observation)["actions"]
        by_offset = client.ask(observation | {"seed": 5, "prev_chunk_offset": 4, "inference_delay": 2})["actions"]
        left = {"prev_chunk_left_over": first[4:], "inference_delay": 2}
        np.testing.assert_array_equal(client.ask(observation | {"seed": 5} | left)["actions"], by_offset)
        assert "not in a batch" in client.ask({"batch": [observation | left]})
    # The same as the model is asked for directly, then held to the robot's limits.
    images = {key[19:]: value for key, value in observation.items() if key.startswith("observation.images.")}
    seen = Observation(images=images, state=observation["observation.state"], task=observation["task"])
    running = Running(actions=first[None, 4:], inference_delay=2, execution_horizon=4)
    expected = bundle.infer([seen], seeds=[5], running=running)[0]
    np.testing.assert_allclose(expected[:2], first[4:6], atol=1e-5)
    np.testing.assert_allclose(by_offset[:2], first[4:6], atol=1e-4)
