"""Latency, real-time chunking and counted violations, in a world where every executed row is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from model.errors import UserError
from model.evaluation.actors import ActorLost, Look
from model.evaluation.closed_loop import Rig
from model.evaluation.records import Violations
from model.evaluation.trial import Pace, run_trial


class Tape:
    """A simulation that notes what it was told, and never ends."""

    fps = 10

    def reset(self, seed):
        self.told: list[float] = []

    def state(self):
        return np.array([-1.0], np.float32)

    def observe(self):
        return {"images": {}}

    def step(self, action):
        self.told.append(float(action[0]))
        return SimpleNamespace(checkpoints_passed=0, success=False, time=len(self.told) / 10)


class Counting:
    """Its n-th chunk of 6 rows is 10 n, 10 n + 1, ..."""

    needs_images = False

    def __init__(self):
        self.looks: list[Look] = []

    def act(self, look):
        self.looks.append(look)
        return (10.0 * len(self.looks) + np.arange(6.0))[:, None]


def play(pace: Pace, steps: int, actor=None, robot=None):
    tape, actor = Tape(), actor or Counting()
    outcome = run_trial(
        tape, actor, seed=0, instruction="go", checkpoints=("one",), pace=pace, max_steps=steps, robot=robot
    )
    return tape.told, actor, outcome


def test_without_latency_a_chunk_is_executed_from_its_first_row():
    told, actor, _ = play(Pace(execute_steps=3), 7)
    assert told == [10, 11, 12, 20, 21, 22, 30]
    assert [look.step for look in actor.looks] == [0, 3, 6]


def test_the_old_chunk_goes_on_while_the_new_one_is_computed():
    told, actor, _ = play(Pace(execute_steps=3, latency_steps=2), 9)
    # Two steps of standing still; row 0 and 1 of each chunk are over when it arrives.
    assert told == [-1, -1, 12, 13, 14, 22, 23, 24, 32]
    assert [look.step for look in actor.looks] == [0, 3, 6]


def test_a_chunk_that_is_over_holds_its_last_row():
    told, _, _ = play(Pace(execute_steps=5, latency_steps=3), 13)
    assert told == [-1, -1, -1, 13, 14, 15, 15, 15, 23, 24, 25, 25, 25]


def test_looks_are_no_closer_than_the_latency():
    _, actor, outcome = play(Pace(execute_steps=1, latency_steps=4), 12)
    assert [look.step for look in actor.looks] == [0, 4, 8] and outcome.looks == 3


def test_real_time_chunking_tells_what_goes_on():
    _, actor, _ = play(Pace(execute_steps=3, latency_steps=2, real_time=True), 7)
    first, second, third = (look.ahead for look in actor.looks)
    assert first is None, "nothing runs yet"
    assert second.actions[:, 0].tolist() == [13, 14, 15] and third.actions[:, 0].tolist() == [23, 24, 25]
    assert (second.delay, second.period) == (2, 3)


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (Pace(execute_steps=11), "execute_steps is 11, the policy's chunk has 10 steps"),
        (Pace(execute_steps=5, latency_steps=10), "latency of 10 control steps does not fit a chunk of 10"),
        (Pace(execute_steps=8, latency_steps=3, real_time=True), "lower execute_steps to 7 or less"),
    ],
)
def test_a_pace_that_the_chunk_does_not_bear_is_refused(pace, words):
    with pytest.raises(UserError, match=words):
        pace.check(10)
    Pace(execute_steps=7, latency_steps=3, real_time=True).check(10)


def test_a_latency_in_milliseconds_is_rounded_up_to_control_steps(tmp_path):
    bundle = SimpleNamespace(contract={"control_hz": 50, "horizon": 20})
    steps = [Rig(bundle=tmp_path, execute_steps=5, latency_ms=ms).pace(bundle).latency_steps for ms in (0, 1, 20, 60.1)]
    assert steps == [0, 1, 1, 4]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latency_ms": -1.0}, "latency of -1.0 ms cannot be"),
        ({"latency_ms": float("nan")}, "latency of nan ms cannot be"),
        ({"max_seconds": -1.0}, "trial of at most -1.0 s cannot be"),
        ({"max_seconds": float("inf")}, "trial of at most inf s cannot be"),
        ({"server": "http://host:1"}, "must begin with ws:// or wss://"),
        ({"server": "ws://host:1", "num_steps": 3}, "the Euler steps are the server's own"),
    ],
)
def test_a_rig_that_cannot_work_is_refused(tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        Rig(bundle=tmp_path, execute_steps=1, **settings)


@pytest.mark.parametrize("change", [{"latency_ms": 20.0}, {"real_time": True}, {"server": "ws://host:1"}])
def test_trials_of_another_pace_are_not_reused(tmp_path, change):
    assert Rig(bundle=tmp_path, execute_steps=1).digest("d") != Rig(bundle=tmp_path, execute_steps=1, **change).digest(
        "d"
    )


def test_commands_beyond_the_limits_are_counted():
    robot = SimpleNamespace(limits=np.array([[-1.0, 11.5]]), velocity_limits=np.array([15.0]))
    # -1 -> 10 jumps by 11, 12 -> 20 by 8: both beyond 15 a second at 10 Hz; 12, 20, 21 are above 11.5.
    _, _, outcome = play(Pace(execute_steps=3), 5, robot=robot)
    assert outcome.violations == Violations(limits=3, velocity=2)


def test_limits_that_nobody_verified_cannot_be_broken():
    robot = SimpleNamespace(limits=np.full((1, 2), np.nan), velocity_limits=np.array([np.nan]))
    assert play(Pace(execute_steps=3), 5, robot=robot)[2].violations == Violations()


def test_an_actor_that_is_lost_ends_the_trial_and_is_no_fault_of_the_policy():
    class Leaves(Counting):
        def act(self, look):
            if look.step:
                raise ActorLost("the server ws://h did not answer: OSError: gone")
            return super().act(look)

    _, _, outcome = play(Pace(execute_steps=3), 9, actor=Leaves())
    assert outcome.lost and outcome.reason == "the server ws://h did not answer: OSError: gone (look 2, step 3)"
    assert outcome.seconds == 0.3
