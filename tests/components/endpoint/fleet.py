"""Robots that run episodes against an endpoint with the project's own client, and keep count of what they got."""

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass, field

from lingbot_client import Backoff, PolicyClient


@dataclass
class Count:
    """What all robots got. `lost`: questions without an answer; `mixed`: episodes that two versions answered."""

    answers: Counter = field(default_factory=Counter)  # by version
    by_robot: Counter = field(default_factory=Counter)
    episodes: int = 0
    asked: int = 0
    mixed: int = 0
    broken: int = 0  # episodes in which the connection went after their first answer
    lost: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.answers.values())


class Fleet:
    """`with Fleet(url, message, robots=16) as count:` runs them; they finish their episodes at the end."""

    def __init__(self, url, message, *, robots, steps=5):
        self._url, self._message, self._steps = url, message, steps
        self._stop, self._lock = threading.Event(), threading.Lock()
        self.count = Count()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(robots)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self.count

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads)

    def wait_for(self, answers, seconds=60.0):
        """Until the robots have so many more answers in all."""
        goal, end = self.count.total + answers, threading.Event()
        for _ in range(int(seconds / 0.02)):
            if self.count.total >= goal or self.count.lost:
                return
            end.wait(0.02)
        raise AssertionError(f"{self.count.total} answers in {seconds} s, {goal} were waited for")

    def _run(self, number):
        client = None
        with contextlib.ExitStack() as stack:
            while not self._stop.is_set():
                try:
                    if client is None:
                        backoff = Backoff(first=0.05, most=0.5, patience=30.0)
                        client = stack.enter_context(PolicyClient(self._url, backoff=backoff, reply_seconds=30.0))
                    self._episode(client, number)
                except Exception as error:  # noqa: BLE001 - counted, and shown by who asserts that there is none
                    with self._lock:
                        self.count.lost.append(f"robot {number}: {type(error).__name__}: {error}")
                    return

    def _episode(self, client, number):
        client.reset()
        versions, reconnects = set(), 0
        for step in range(self._steps):
            with self._lock:
                self.count.asked += 1
            reply = client.infer({**self._message, "seed": step, "robot_id": f"robot-{number}"})
            versions.add((reply["model_version"], reply["bundle_digest"]))
            # A server that drains answers a reset and closes: the episode's first question goes to another one.
            reconnects = client.reconnects if step == 0 else reconnects
            with self._lock:
                self.count.answers[reply["model_version"]] += 1
                self.count.by_robot[number] += 1
        with self._lock:
            self.count.episodes += 1
            self.count.mixed += len(versions) > 1
            self.count.broken += client.reconnects > reconnects


def drill_promotions(url, message, *, robots, moves, move):
    """Moves the alias under running robots, each time as soon as each of them can have met the last move.

    `move(number)` promotes (even numbers) or takes back (odd), and returns the version that answers from then on.
    """
    fleet = Fleet(url, message, robots=robots)
    with fleet as count:
        fleet.wait_for(robots)
        for number in range(moves):
            version = move(number)
            goal = count.answers[version] + robots
            while count.answers[version] < goal and not count.lost:
                fleet.wait_for(1)
    return count


def drill_restarts(url, message, *, robots, restarts, start):
    """Two servers behind one address, drained and replaced in turn, under running robots.

    `start()` starts one and returns what drains it and waits for its end.
    """
    serving = [start(), start()]
    fleet = Fleet(url, message, robots=robots)
    with fleet as count:
        fleet.wait_for(robots)
        for _ in range(restarts):
            serving.pop(0)()
            serving.append(start())
            fleet.wait_for(robots)
    return count


def assert_nothing_lost(count, robots):
    assert count.lost == [] and count.asked == count.total
    assert count.mixed == 0, "an episode was answered by two versions"
    assert count.broken == 0, "a connection went within an episode"
    assert len(count.by_robot) == robots, "a robot starved"
