"""The queue before the model: what goes together, what is dropped, and that nobody waits for nothing."""

import asyncio
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from components.endpoint.batching import Batcher, Work
from components.endpoint.call_cost import CallCost
from components.endpoint.errors import BadObservation, Expired, Superseded, TooMany, Unavailable
from components.endpoint.metrics import Metrics
from components.endpoint.observations import Request
from components.endpoint.realtime import RunningChunk
from components.endpoint.runner import ModelRunner
from components.endpoint.sessions import Session
from tests.components.waiting import LONG


class Policy:
    """Answers each observation with its state, in a time that can be held: `gate` lets calls end."""

    def __init__(self):
        self.calls, self.gate = [], threading.Event()
        self.gate.set()
        self.seconds = 0.0

    def infer(self, observations, *, seeds, running=None):
        self.calls.append([int(observation.state[0]) for observation in observations])
        assert self.gate.wait(LONG)
        time.sleep(self.seconds)
        if any(observation.state[0] < 0 for observation in observations):
            raise RuntimeError("broken by an observation")
        return np.stack([np.full((2, 1), observation.state[0], dtype=np.float32) for observation in observations])


class Clock:
    """Stands still. After a long time it goes on, or what waits for it in a test that fails would wait for ever."""

    def __init__(self):
        self._began = time.monotonic()

    def __call__(self):
        now = time.monotonic()
        return self._began if now < self._began + LONG else now


class House:
    """A batcher over a policy, on the running loop."""

    def __init__(self, **limits):
        self.policy, self.metrics, self.runner = Policy(), Metrics(), ModelRunner()
        self.served = SimpleNamespace(bundle=self.policy, model_version="7")
        self.batcher = Batcher(self.runner, self.metrics, **limits)

    def work(self, *states, session=None, seconds=float("inf"), served=None, running=None):
        now = asyncio.get_running_loop().time()
        return Work(
            served=served or self.served,
            requests=[Request(images={}, state=np.array([state], np.float32), task="t", seed=None) for state in states],
            seeds=[0] * len(states),
            session=session or robot(),
            arrived=now,
            deadline=now + seconds,
            running=running,
        )

    async def ask(self, *states, **options):
        """Begins to wait for an answer."""
        task = asyncio.create_task(self.batcher.submit(self.work(*states, **options)))
        await asyncio.sleep(0)
        return task

    async def blocked(self):
        """The model is in a call until `policy.gate` is set."""
        self.policy.gate.clear()
        task = await self.ask(0)
        while not self.policy.calls:
            await asyncio.sleep(0)  # also while the clock stands still
        return task


def robot(client=None):
    name = client or f"robot {time.perf_counter_ns()}"
    return Session(id=name, client=name, transport="websocket")


def run(scenario, **limits):
    async def main():
        house = House(**limits)
        try:
            await scenario(house)
        finally:
            house.policy.gate.set()
            house.runner.close()

    asyncio.run(asyncio.wait_for(main(), LONG))


@pytest.fixture
def stop_the_clock(monkeypatch):
    """Called on a loop, its time and the batcher's stand still: how long something takes decides nothing any more."""

    def stop():
        clock = Clock()
        monkeypatch.setattr("components.endpoint.batching.time", SimpleNamespace(monotonic=clock))
        asyncio.get_running_loop().time = clock

    return stop


def test_an_idle_model_starts_at_once_and_what_gathers_meanwhile_goes_together():
    async def scenario(house):
        first = await house.blocked()
        assert house.policy.calls == [[0]]  # nothing waited for company
        rest = [await house.ask(state) for state in range(1, 6)]
        house.policy.gate.set()
        answers = await asyncio.gather(first, *rest)
        assert house.policy.calls == [[0], [1, 2, 3, 4, 5]]
        assert [float(answer.actions[0, 0, 0]) for answer in answers] == [0, 1, 2, 3, 4, 5]
        assert [answer.batch for answer in answers] == [1, 5, 5, 5, 5, 5]
        assert answers[1].queue_seconds > 0 and house.batcher.pending == 0
        assert house.metrics.value("batch_size", version="7") == 2

    run(scenario)


def test_a_batch_is_no_larger_than_the_limit_and_keeps_a_messages_observations_together():
    async def scenario(house):
        tasks = [await house.blocked()]
        tasks += [await house.ask(1, 2), await house.ask(3, 4), await house.ask(5)]
        house.policy.gate.set()
        answers = await asyncio.gather(*tasks)
        assert house.policy.calls == [[0], [1, 2], [3, 4, 5]]
        assert answers[1].actions[:, 0, 0].tolist() == [1, 2]

        with pytest.raises(BadObservation, match="a batch of 4 observations: here at most 3"):
            house.batcher.enter(house.work(6, 7, 8, 9))

    run(scenario, max_batch=3)


def test_versions_and_realtime_offsets_are_not_mixed_and_the_oldest_goes_first():
    async def scenario(house):
        other = SimpleNamespace(bundle=house.policy, model_version="8")
        chunk = RunningChunk(actions=np.zeros((2, 1), np.float32), delay=1, free=1)
        tasks = [await house.blocked()]
        tasks += [await house.ask(1), await house.ask(2, served=other), await house.ask(3, running=chunk)]
        tasks += [await house.ask(4, served=other), await house.ask(5), await house.ask(6, running=chunk)]
        house.policy.gate.set()
        await asyncio.gather(*tasks)
        assert house.policy.calls == [[0], [1, 5], [2, 4], [3, 6]]

    run(scenario)


def test_a_newer_observation_of_a_robot_supersedes_the_waiting_one():
    async def scenario(house):
        await house.blocked()
        one = robot()
        old, other = await house.ask(1, session=one), await house.ask(2)
        new = await house.ask(3, session=one)
        with pytest.raises(Superseded):
            await old
        house.policy.gate.set()
        await asyncio.gather(new, other)
        assert house.policy.calls == [[0], [2, 3]]
        assert house.metrics.value("dropped", version="7", reason="superseded") == 1

    run(scenario)


def test_what_is_in_the_model_already_is_not_superseded():
    async def scenario(house):
        one = robot()
        house.policy.gate.clear()
        first, second = await house.ask(1, session=one), await house.ask(2, session=one)
        house.policy.gate.set()
        assert [float((await task).actions[0, 0, 0]) for task in (first, second)] == [1, 2]

    run(scenario)


def test_expired_work_is_refused_at_its_deadline_and_never_reaches_the_model():
    async def scenario(house):
        await house.blocked()
        late, patient = await house.ask(1, seconds=0.05), await house.ask(2, seconds=LONG)
        with pytest.raises(Expired) as refusal:
            await late  # while the model is still in its call
        assert refusal.value.status == 503 and refusal.value.retry_after >= 1
        house.policy.gate.set()
        await patient
        assert house.policy.calls == [[0], [2]]
        assert house.metrics.value("dropped", version="7", reason="expired") == 1

    run(scenario)


def test_work_that_nobody_waits_for_never_reaches_the_model():
    async def scenario(house):
        await house.blocked()
        gone, here = await house.ask(1), await house.ask(2)
        gone.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert house.batcher.pending == 2
        house.policy.gate.set()
        await here
        assert house.policy.calls == [[0], [2]]

    run(scenario)


def test_a_full_queue_refuses_with_a_time_to_wait(stop_the_clock):
    async def scenario(house):
        stop_the_clock()
        for _ in range(2):
            house.batcher._cost.saw(1, 1.4)
        tasks = [await house.blocked(), await house.ask(1)]
        assert house.batcher.full
        with pytest.raises(Unavailable, match="2 requests wait") as refusal:
            await house.batcher.submit(house.work(2))
        assert refusal.value.retry_after == 3  # the rest of one call of 1.4 s, and another
        house.policy.gate.set()
        await asyncio.gather(*tasks)
        assert not house.batcher.full and house.batcher.pending == 0
        assert (await house.batcher.submit(house.work(3))).actions[0, 0, 0] == 3

    run(scenario, queue_limit=2)


def test_one_client_cannot_fill_the_queue():
    async def scenario(house):
        await house.blocked()
        for state in (1, 2):
            await house.ask(state, session=Session(id=str(state), client="greedy", transport="http"))
        with pytest.raises(TooMany) as refusal:
            await house.batcher.submit(house.work(3, session=Session(id="3", client="greedy", transport="http")))
        assert refusal.value.status == 429 and refusal.value.retry_after >= 1
        other = await house.ask(4)
        house.policy.gate.set()
        await other
        assert house.batcher._by_client.total() == 0  # nothing is kept of who left

    run(scenario, client_limit=2)


def test_what_cannot_be_answered_in_time_is_refused_at_once_but_never_when_nobody_waits(stop_the_clock):
    async def scenario(house):
        house.policy.seconds = 0.2
        await (await house.ask(0))
        house.policy.seconds = 0.0
        house.policy.gate.clear()
        running, waiting = await house.ask(1, seconds=0.3), await house.ask(2)
        stop_the_clock()
        with pytest.raises(Unavailable, match="longer than its deadline"):
            await house.batcher.submit(house.work(3, seconds=0.05))
        house.policy.gate.set()
        await asyncio.gather(running, waiting)
        alone = await house.batcher.submit(house.work(4, seconds=0.05))  # tried: nobody is before it
        assert alone.actions[0, 0, 0] == 4

    run(scenario)


def test_a_batch_stays_small_enough_for_the_deadlines_in_it(stop_the_clock):
    async def scenario(house):
        stop_the_clock()
        for size in (1, 2, 4) * 6:
            house.batcher._cost.saw(size, 0.1 * size)  # 0.1 s an observation
        tasks = [await house.blocked()]
        tasks += [await house.ask(1, seconds=0.35)] + [await house.ask(state) for state in (2, 3, 4, 5)]
        house.policy.gate.set()
        await asyncio.gather(*tasks)
        assert house.policy.calls == [[0], [1, 2, 3], [4, 5]]

    run(scenario)


def test_an_observation_that_breaks_the_model_harms_only_its_robot():
    async def scenario(house):
        tasks = [await house.blocked()]
        tasks += [await house.ask(state) for state in (1, -2, 3)]
        house.policy.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["Answered", "Answered", "RuntimeError", "Answered"]
        assert house.policy.calls == [[0], [1, -2, 3], [1], [-2], [3]]
        assert (await house.batcher.submit(house.work(9))).batch == 1

    run(scenario)


def test_a_versions_rehearsal_takes_its_turn_and_a_shadow_waits_for_idleness(monkeypatch):
    monkeypatch.setattr("components.endpoint.batching._PATIENCE_SECONDS", 60.0)

    async def scenario(house):
        order = []
        tasks = [await house.blocked()]
        shadow = house.batcher.when_idle(lambda: order.append("shadow"))
        rehearsal = asyncio.create_task(house.batcher.alone(lambda: order.append(len(house.policy.calls))))
        await asyncio.sleep(0)
        tasks.append(await house.ask(1))
        assert house.batcher.when_idle(lambda: None) is not None
        assert house.batcher.when_idle(lambda: None) is None  # no more than two wait
        house.policy.gate.set()
        await asyncio.gather(*tasks, rehearsal, shadow)
        assert order == [1, "shadow"] and house.policy.calls == [[0], [1]]

    run(scenario)


@pytest.mark.parametrize(("patience", "order"), [(60.0, [[0], [1], "shadow"]), (0.0, [[0], "shadow", [1]])])
def test_a_shadow_that_has_waited_enough_goes_before_the_robots(monkeypatch, patience, order):
    monkeypatch.setattr("components.endpoint.batching._PATIENCE_SECONDS", patience)

    async def scenario(house):
        tasks = [await house.blocked()]
        shadow = house.batcher.when_idle(lambda: house.policy.calls.append("shadow"))
        tasks.append(await house.ask(1))
        house.policy.gate.set()
        await asyncio.gather(*tasks, shadow)
        assert house.policy.calls == order

    run(scenario)


def test_what_the_bundle_refuses_is_the_clients_error(monkeypatch):
    from model.errors import UserError

    async def scenario(house):
        def refuse(observations, *, seeds):
            raise UserError("no such camera")

        house.policy.infer = refuse
        with pytest.raises(BadObservation, match="no such camera"):
            await house.batcher.submit(house.work(1))

    run(scenario)


def test_the_cost_of_a_call_is_learned_and_follows_a_change():
    cost = CallCost()
    assert cost.seconds(4) == 0
    cost.saw(1, 0.05)
    assert cost.seconds(8) == pytest.approx(0.05)
    for size in (1, 4, 8, 16) * 5:
        cost.saw(size, 0.045 + 0.005 * size)
    assert cost.seconds(12) == pytest.approx(0.105, rel=0.05)
    for size in (1, 4, 8, 16) * 50:
        cost.saw(size, 0.01 * size)
    assert cost.seconds(12) == pytest.approx(0.12, rel=0.05)
