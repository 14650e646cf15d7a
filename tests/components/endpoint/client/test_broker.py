"""Chunks played step by step."""

import numpy as np
import pytest

from lingbot_client import ActionChunkBroker


class CountingPolicy:
    """Chunk number n holds 10 n + row."""

    def __init__(self, rows=4):
        self.rows, self.seen, self.resets = rows, [], 0

    def infer(self, message):
        self.seen.append(message)
        return {"actions": 10.0 * len(self.seen) + np.arange(self.rows)[:, None]}

    def reset(self, episode_id=""):
        self.resets += 1


def played(broker, steps):
    return [float(broker.act(number if broker.due else None)[0]) for number in range(steps)]


@pytest.mark.parametrize(
    ("execute", "expected", "looks"),
    [
        (None, [10, 11, 12, 13, 20, 21], [0, 4]),
        (3, [10, 11, 12, 20, 21, 22], [0, 3]),
        (1, [10, 20, 30, 40, 50, 60], [0, 1, 2, 3, 4, 5]),
        (9, [10, 11, 12, 13, 20, 21], [0, 4]),
    ],
)
def test_it_looks_again_after_as_many_steps_as_it_was_told(execute, expected, looks):
    policy = CountingPolicy()
    assert played(ActionChunkBroker(policy, execute_steps=execute), 6) == expected
    assert policy.seen == looks


def test_a_reset_gives_up_the_rest_of_the_chunk():
    policy = CountingPolicy()
    broker = ActionChunkBroker(policy)
    played(broker, 2)
    broker.reset()
    assert broker.due and policy.resets == 1 and played(broker, 1) == [20]


def test_an_observation_is_needed_when_the_chunk_is_over():
    broker = ActionChunkBroker(CountingPolicy())
    with pytest.raises(ValueError, match="give an observation"):
        broker.act(None)


def test_a_failed_question_leaves_nothing_to_play():
    policy = CountingPolicy(rows=1)
    broker = ActionChunkBroker(policy)
    played(broker, 1)
    policy.infer = lambda message: (_ for _ in ()).throw(RuntimeError("away"))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            broker.act("look")
        assert broker.due and broker.reply is None


def test_no_steps_are_no_plan():
    with pytest.raises(ValueError, match="at least 1"):
        ActionChunkBroker(CountingPolicy(), execute_steps=0)
