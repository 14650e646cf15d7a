"""What may reach a robot, and the thread that the model runs on."""

import queue
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from components.endpoint.contract import Contract
from components.endpoint.errors import UnsafeAction
from components.endpoint.guard import guard
from components.endpoint.runner import ModelRunner


@pytest.fixture(scope="module")
def contract(bundle):
    return Contract.of(bundle)


def test_a_chunk_inside_the_limits_is_not_touched(contract):
    actions = np.full((contract.horizon, 14), 0.5, dtype=np.float32)
    guarded = guard(actions, contract)
    np.testing.assert_array_equal(guarded.actions, actions)
    assert guarded.clipped == 0


def test_values_outside_are_clipped_and_counted(contract):
    actions = np.full((contract.horizon, 14), 0.5, dtype=np.float32)
    actions[0, 0], actions[1, 6], actions[2, 1] = 9.0, -0.5, 1.25664 + 5e-5
    guarded = guard(actions, contract)
    assert guarded.clipped == 2  # the third is rounding
    assert guarded.actions[0, 0] == np.float32(3.14158) and guarded.actions[1, 6] == 0
    assert (guarded.actions <= contract.upper).all() and (guarded.actions >= contract.lower).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_never_sent(contract, bad):
    actions = np.zeros((contract.horizon, 14), dtype=np.float32)
    actions[3, 3] = bad
    with pytest.raises(UnsafeAction, match="not finite"):
        guard(actions, contract)


def test_the_shape_is_held_to_the_contract(contract):
    with pytest.raises(UnsafeAction, match="instead of"):
        guard(np.zeros((1, 14), dtype=np.float32), contract)


FAULTS = """
import queue
import resource
from components.endpoint.runner import ModelRunner

def work():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    data = [bytearray(8 * 2**20) for _ in range(5)]
    del data
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

runner, done, faults = ModelRunner(), queue.SimpleQueue(), []
for _ in range(20):
    runner.start(work, done.put)
    faults.append(done.get().value)
runner.close()
print(faults[-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_models_thread_reuses_what_an_earlier_call_freed():
    """In a process of its own: the allocator's setting is the process's."""
    result = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 10  # of 10,240 pages


def test_calls_run_one_at_a_time_in_order_off_the_loop():
    runner, order, threads = ModelRunner(), [], set()

    def work(i):
        threads.add(threading.current_thread().name)
        time.sleep(0.01)
        order.append(i)
        return i

    done = queue.SimpleQueue()
    for i in range(5):
        runner.start(lambda i=i: work(i), done.put)
    results = [done.get(timeout=60) for _ in range(5)]
    assert [r.value for r in results] == order == list(range(5))
    assert len(threads) == 1 and threads != {threading.main_thread().name}
    assert results[0].seconds >= 0.01 and runner.running_seconds() == 0
    runner.close()


def test_what_a_call_raises_is_its_outcome_and_the_next_one_runs():
    runner, done = ModelRunner(), queue.SimpleQueue()

    def fail():
        raise RuntimeError("weights on fire")

    runner.start(fail, done.put)
    assert str(done.get(timeout=60).error) == "weights on fire"
    runner.start(lambda: 3, done.put)
    outcome = done.get(timeout=60)
    assert outcome.value == 3 and outcome.error is None and runner.running_seconds() == 0
    runner.close()


def test_the_end_waits_for_what_was_started_and_nothing_starts_after_it():
    runner, done = ModelRunner(), queue.SimpleQueue()
    runner.start(lambda: time.sleep(0.05), done.put)
    runner.start(lambda: 4, done.put)
    runner.close()
    assert [done.get(block=False).value for _ in range(2)] == [None, 4]
    with pytest.raises(RuntimeError, match="has ended"):
        runner.start(lambda: 5, done.put)
