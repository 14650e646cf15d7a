"""Chunks played while the next one is computed."""

import concurrent.futures
import queue
import threading

import numpy as np
import pytest

from lingbot_client import ContractMismatch, PolicyClient, RealTimeBroker, observation
from model.evaluation.trial import Pace

LIMIT = 60.0


class GatedPolicy:
    """Chunk number n (from 1) holds 100 n + row; a chunk that goes on repeats the rows it was told of. Answers from
    the second on wait for `let()`."""

    def __init__(self, rows=10):
        self.rows, self.asked, self.resets, self.real_time = rows, 0, 0, True
        self._seen, self._gate, self.error = queue.Queue(), threading.Semaphore(1), None
        self._inside = False

    def let(self):
        self._gate.release()

    def told(self):
        """The next message that it was asked with."""
        return self._seen.get(timeout=LIMIT)

    def infer(self, message):
        self.asked += 1
        number = self.asked
        self._seen.put(message)
        self._inside = True
        assert self._gate.acquire(timeout=LIMIT)
        self._inside = False
        if self.error is not None:
            raise self.error
        chunk = 100.0 * number + np.arange(self.rows, dtype=np.float32)[:, None]
        if "inference_delay" in message:
            delay = message["inference_delay"]
            chunk[:delay] = message["prev_chunk_left_over"][:delay]
        return {"actions": chunk}

    def reset(self, episode_id=""):
        assert not self._inside, "a client is asked by one thread at a time"
        self.resets += 1


@pytest.fixture
def policy():
    return GatedPolicy()


@pytest.fixture
def play(policy):
    """`play(steps)` gives observations when they are due and returns the actions."""
    made = []

    def go(steps, broker):
        made.append(broker)
        given = [broker.act({"look": True} if broker.due else None) for _ in range(steps)]
        return [float(action[0]) for action in given]

    yield go
    for _ in range(20):
        policy.let()
    for broker in made:
        broker.close()


def arrives(policy, broker):
    """The answer that is under way is there."""
    policy.let()
    assert concurrent.futures.wait([broker._asked], LIMIT).done


def test_the_robot_moves_on_while_it_is_asked_and_switches_where_the_answer_goes_on(policy, play):
    broker = RealTimeBroker(policy, execute_steps=4, inference_delay=2)
    assert play(4, broker) == [100, 101, 102, 103] and broker.due
    assert play(1, broker) == [104] and not broker.due
    assert "inference_delay" not in policy.told()
    told = policy.told()
    assert told["look"] and told["inference_delay"] == 2
    np.testing.assert_array_equal(told["prev_chunk_left_over"][:, 0], [104, 105, 106, 107, 108, 109])
    arrives(policy, broker)
    before = broker.reply
    assert play(1, broker) == [105] and broker.reply is before, "what was told to be executed meanwhile is"
    assert play(2, broker) == [202, 203] and broker.due, "rows 0 and 1 of the answer are those that went on"
    assert play(1, broker) == [204]
    np.testing.assert_array_equal(policy.told()["prev_chunk_left_over"][:, 0], np.arange(204, 210))


def test_a_late_answer_is_not_waited_for_while_rows_are_left(policy, play):
    broker = RealTimeBroker(policy, execute_steps=4, inference_delay=1)
    assert play(9, broker) == list(range(100, 109))
    arrives(policy, broker)
    assert play(1, broker) == [205], "five were given out since the look"
    assert broker.delay == 5, "the next one is asked for as late as this one was"
    told = [policy.told() for _ in range(3)]
    assert [message.get("inference_delay") for message in told] == [None, 1, 5]
    np.testing.assert_array_equal(told[2]["prev_chunk_left_over"][:, 0], np.arange(205, 210))


def test_it_waits_when_the_chunk_is_over(policy, play):
    broker = RealTimeBroker(policy, execute_steps=8, inference_delay=2)
    play(10, broker)
    threading.Timer(0.05, policy.let).start()
    assert play(1, broker) == [202]


def test_a_slow_answer_is_forgotten_after_ten_that_were_not(policy, play):
    broker = RealTimeBroker(policy, execute_steps=2, inference_delay=1)
    play(5, broker)
    for delay in [3] * 10 + [1]:
        arrives(policy, broker)
        before = broker.reply
        while broker.reply is before:
            play(1, broker)
        assert broker.delay == delay
        while broker._asked is None:
            play(1, broker)


def test_after_an_error_the_chunk_goes_on_and_is_gone_on_from(policy, play):
    broker = RealTimeBroker(policy, execute_steps=4, inference_delay=1)
    play(5, broker)
    policy.error = RuntimeError("away")
    arrives(policy, broker)
    with pytest.raises(RuntimeError, match="away"):
        broker.act(None)
    policy.error = None
    assert broker.due and play(1, broker) == [105]
    *_, last = [policy.told() for _ in range(3)]
    np.testing.assert_array_equal(last["prev_chunk_left_over"][:, 0], np.arange(105, 110))


def test_a_reset_gives_up_the_chunk_and_the_answer_that_is_under_way(policy, play):
    broker = RealTimeBroker(policy, execute_steps=4)
    play(5, broker)
    threading.Timer(0.05, policy.let).start()
    broker.reset()
    assert policy.resets == 1 and broker.reply is None and broker.due
    policy.let()
    assert play(2, broker) == [300, 301]
    assert ["inference_delay" in policy.told() for _ in range(3)] == [False, True, False]


def test_an_observation_is_needed_when_the_chunk_is_over(policy, play):
    broker = RealTimeBroker(policy, execute_steps=4)
    with pytest.raises(ValueError, match="give an observation"):
        broker.act(None)
    play(1, broker)
    assert [float(broker.act(None)[0]) for _ in range(9)] == list(range(101, 110)), "without one the chunk goes on"
    with pytest.raises(ValueError, match="give an observation"):
        broker.act(None)


@pytest.mark.parametrize("rows,execute,delay", [(10, 10, 1), (10, 6, 5), (4, 3, 2)])
def test_what_does_not_fit_a_chunk_is_said_as_in_evaluations(rows, execute, delay):
    broker = RealTimeBroker(GatedPolicy(rows), execute_steps=execute, inference_delay=delay)
    with pytest.raises(ValueError, match=f"lower execute_steps to {rows - delay} or less"):
        broker.act({})
    with pytest.raises(ValueError, match=f"lower execute_steps to {rows - delay} or less"):
        Pace(execute_steps=execute, latency_steps=delay, real_time=True).check(rows)


@pytest.mark.parametrize("steps", [{"execute_steps": 0}, {"execute_steps": 1, "inference_delay": 0}])
def test_no_steps_are_no_plan(policy, steps):
    with pytest.raises(ValueError, match="at least 1"):
        RealTimeBroker(policy, **steps)


def test_a_server_that_would_start_anew_is_not_asked(policy, play):
    policy.real_time = False
    broker = RealTimeBroker(policy, execute_steps=1)
    play(1, broker)
    with pytest.raises(ContractMismatch, match="use ActionChunkBroker"):
        broker.act({})
    assert policy.asked == 1


def test_a_real_endpoint_goes_on_from_what_the_robot_executes(start, bundle, observation):
    """Every action that was sent is executed once, in step with its observation, and no switch is a jump."""
    images = {key[19:]: value for key, value in observation.items() if key.startswith("observation.images.")}

    def look(seed):
        return _observed(images, observation, seed)

    url = start(bundle).url
    with (
        PolicyClient(url, reply_seconds=LIMIT) as client,
        RealTimeBroker(client, execute_steps=4, inference_delay=3) as broker,
    ):
        broker.reset()
        played, chunks = [], []
        for step in range(12):
            before = broker.reply
            played.append(broker.act(look(step) if broker.due else None))
            if broker.reply is not before:
                chunks.append((step, broker.reply["actions"]))
            if broker._asked is not None:
                assert concurrent.futures.wait([broker._asked], LIMIT).done
    (first, one), (second, two), (third, three) = chunks
    assert (first, second, third) == (0, 7, 11)
    np.testing.assert_array_equal(played[:7], one[:7])
    np.testing.assert_array_equal(played[7:8], two[3:4])
    np.testing.assert_allclose(two[:3], one[4:7], atol=1e-4)
    np.testing.assert_allclose(three[:3], two[4:7], atol=1e-4)


def _observed(images, message, seed):
    return observation(images, message["observation.state"], message["task"], seed=seed)
