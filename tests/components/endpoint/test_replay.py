"""Recorded traffic through a candidate: what is compared, and what the figures say of known answers."""

import asyncio

import numpy as np
import pytest

from components.endpoint import recording as recording_module
from components.endpoint.recording import Recorder, Recording
from components.endpoint.replay import replay
from components.endpoint.replay_figures import Look, figures
from components.endpoint.served import Served
from components.endpoint.service import Service
from model.errors import UserError
from model.progress import Silent

HZ = 10.0


def look(sent, own, **changes):
    sent, own = np.asarray(sent, np.float32), np.asarray(own, np.float32)
    values = {"episode": "a", "number": 0, "start": sent[0], "again": None, "sent_broken": 0, "own_broken": 0}
    return Look(**{**values, "sent_ms": 10.0, "own_ms": 20.0, **changes}, sent=sent, own=own)


def figures_of(looks):
    return figures(looks, names=("left", "right"), control_hz=HZ)


class TestFigures:
    WAVE = np.stack([np.sin(np.arange(20)), 10 * np.sin(np.arange(20))], axis=1)

    def test_the_same_answers_differ_in_nothing(self):
        found = figures_of([look(self.WAVE, self.WAVE)] * 3)
        assert found["divergence"]["mean"] == found["divergence"]["p95"] == 0
        assert found["jerk"]["ratio"] == 1.0 and found["looks"] == 3 and found["episodes"] == 1

    def test_divergence_is_in_each_joints_own_spread(self):
        spread = self.WAVE.std(axis=0)
        found = figures_of([look(self.WAVE, self.WAVE + 0.5 * spread)])
        assert found["divergence"]["mean"] == pytest.approx(0.5, rel=1e-5)
        assert found["divergence"]["by_step"] == pytest.approx([0.5] * 20, rel=1e-4)
        assert found["divergence"]["by_joint"]["right"] == pytest.approx(0.5 * spread[1], rel=1e-5)

    def test_a_joint_that_stands_still_does_not_make_every_difference_huge(self):
        still = np.zeros((20, 2))
        assert figures_of([look(still, still + 1e-6)])["divergence"]["mean"] < 0.01

    def test_jerk_is_the_third_derivative(self):
        time = np.arange(20)[:, None] / HZ
        cubic = np.concatenate([time**3, time**3], axis=1)  # third derivative 6 everywhere
        spread = cubic.std(axis=0)
        found = figures_of([look(cubic, 2 * cubic)])
        assert found["jerk"]["recorded"] == pytest.approx(6 / spread[0], rel=1e-3)
        assert found["jerk"]["ratio"] == pytest.approx(2, rel=1e-3)

    def test_a_jump_from_where_the_joints_were_is_seen(self):
        start = self.WAVE[0] + 0.1
        found = figures_of([look(self.WAVE, self.WAVE + 0.3, start=start)])
        assert found["jump"]["ratio"] > 1.5
        unknown = figures_of([look(self.WAVE, self.WAVE, start=np.full(2, np.nan))])
        assert unknown["jump"] == {"recorded": 0.0, "candidate": 0.0, "ratio": None}

    def test_chunks_of_two_lengths_are_compared_as_far_as_both_go(self):
        found = figures_of([look(self.WAVE, self.WAVE[:7])])
        assert len(found["divergence"]["by_step"]) == 7 and found["divergence"]["mean"] == 0

    def test_the_worst_looks_come_first(self):
        looks = [look(self.WAVE, self.WAVE + 0.1 * number, number=number) for number in range(9)]
        assert [one["look"] for one in figures_of(looks)["divergence"]["worst"]] == [8, 7, 6, 5, 4]

    def test_what_is_counted_is_added_up(self):
        found = figures_of([look(self.WAVE, self.WAVE, sent_broken=1, own_broken=4, own_ms=ms) for ms in (10, 30)])
        assert found["violations"] == {"recorded": 2, "candidate": 8, "values": 80}
        assert found["latency_ms"]["candidate"]["p50"] == 20 and found["latency_ms"]["recorded"]["p99"] == 10


@pytest.fixture
def record(tmp_path, observation):
    """`record(service, count)`: episodes of three looks as robots see them, recorded where they are answered."""

    def run(served, count=6, change=lambda number, message: message, folder=tmp_path / "traffic"):
        service = Service(served)
        recorder = service.recorder = Recorder(
            folder, service.metadata, share=1.0, max_bytes=2**28, metrics=service.metrics
        )

        async def ask():
            session = service.sessions.open()
            for number in range(count):
                state = np.full_like(observation["observation.state"], 0.01 * number)
                message = {**observation, "observation.state": state, "episode_id": f"e{number // 3}", "seed": number}
                await service.answer(change(number, message), session)

        asyncio.run(ask())
        service.runner.close()
        recorder.close()
        return Recording(folder)

    return run


def served(bundle, version="7"):
    return Served(bundle=bundle, model_name="lingbot-vla-test", model_version=version)


def test_the_version_that_answered_would_answer_the_same(record, bundle):
    report = replay(record(served(bundle)), served(bundle), progress=Silent())
    assert report["looks"] == 6 and report["episodes"] == 2 and report["recording"]["versions"] == {"7": 6}
    assert report["divergence"]["mean"] == 0 and report["jerk"]["ratio"] == 1 and report["jump"]["ratio"] == 1
    assert report["divergence"]["own_noise"] > 0.01, "other noise gives other actions: the seeds were replayed"
    assert report["violations"]["candidate"] == report["violations"]["recorded"]
    assert report["candidate"]["bundle_digest"] == bundle.digest and report["refused"]["count"] == 0


def test_real_time_chunks_are_continued_as_they_were(record, bundle):
    def continues(number, message):
        if number % 3 == 0:
            return message
        offset = (
            {"prev_chunk_offset": 4} if number % 3 == 1 else {"prev_chunk_left_over": np.zeros((3, 14), np.float32)}
        )
        return {**message, **offset, "inference_delay": 2}

    report = replay(record(served(bundle), change=continues), served(bundle), progress=Silent())
    assert report["looks"] == 6 and report["divergence"]["mean"] == 0


def test_an_answer_belongs_to_the_episode_that_asked_although_the_next_has_begun(tmp_path, slow_bundle, observation):
    service = Service(served(slow_bundle()))
    recorder = service.recorder = Recorder(
        tmp_path / "traffic", service.metadata, share=1.0, max_bytes=2**28, metrics=service.metrics
    )

    async def ask():
        session = service.sessions.open()
        asked = service.ask({**observation, "episode_id": "a"}, session)
        await service.answer({"reset": True, "episode_id": "b"}, session)  # as a websocket reads ahead
        await service.reply(asked)

    asyncio.run(ask())
    service.runner.close()
    recorder.close()
    assert [exchange.episode for exchange in Recording(tmp_path / "traffic")] == ["a"]


def test_two_robots_may_give_their_episodes_one_name(tmp_path, bundle, observation):
    """Each goes on from its own last chunk."""
    service = Service(served(bundle))
    recorder = service.recorder = Recorder(
        tmp_path / "traffic", service.metadata, share=1.0, max_bytes=2**28, metrics=service.metrics
    )

    async def ask():
        sessions = [service.sessions.open() for _ in range(2)]
        for offset in ({}, {"prev_chunk_offset": 4, "inference_delay": 2}):
            for seed, session in enumerate(sessions):
                await service.answer({**observation, "episode_id": "1", "seed": seed, **offset}, session)

    asyncio.run(ask())
    service.runner.close()
    recorder.close()
    report = replay(Recording(tmp_path / "traffic"), served(bundle), progress=Silent())
    assert report["looks"] == 4 and report["divergence"]["mean"] == 0
    assert sorted(look["look"] for look in report["divergence"]["worst"]) == [0, 0, 1, 1]


def test_a_batch_is_as_many_looks(record, bundle):
    def batched(number, message):
        return {"batch": [message, {**message, "seed": 99}], "episode_id": message["episode_id"]}

    report = replay(record(served(bundle), count=2, change=batched), served(bundle), progress=Silent())
    assert report["looks"] == 4 and report["divergence"]["mean"] < 1e-5


def test_another_policy_differs_and_breaks_limits(record, bundle, slow_bundle):
    wild = slow_bundle(answer=np.full((bundle.contract["horizon"], 14), 50.0, np.float32))
    report = replay(record(served(bundle)), served(wild, "8"), most=4, progress=Silent())
    assert report["looks"] == 4 and report["divergence"]["mean"] > 1
    assert report["violations"]["candidate"] > report["violations"]["values"] / 2
    assert report["divergence"]["own_noise"] == 0


def test_answers_that_could_not_be_sent_are_counted(record, bundle, slow_bundle):
    class SometimesBroken(type(slow_bundle())):
        def infer(self, observations, *, seeds):
            return super().infer(observations, seeds=seeds) * (np.nan if seeds[0] == 2 else 1)

    broken = SometimesBroken(bundle)
    report = replay(record(served(bundle)), served(broken), progress=Silent())
    assert report["unsafe"]["count"] == 1 and "not finite" in report["unsafe"]["reasons"][0] and report["looks"] == 5


def test_a_recording_of_another_robot_is_refused(record, bundle, monkeypatch):
    found = record(served(bundle))
    other = {**bundle.contract, "state": bundle.contract["state"][::-1]}
    monkeypatch.setattr(found, "metadata", lambda: {"contract": other})
    with pytest.raises(UserError, match="was recorded with state .*for the same robot"):
        replay(found, served(bundle), progress=Silent())


def test_a_recording_without_an_answer_says_why(record, bundle, slow_bundle):
    found = record(served(bundle), count=1)
    broken = slow_bundle(answer=np.full((bundle.contract["horizon"], 14), np.nan, np.float32))
    with pytest.raises(UserError, match="nothing of .* was answered by version 9: .*not finite"):
        replay(found, served(broken, "9"), progress=Silent())


def test_a_view_that_the_candidate_would_refuse_is_counted(record, bundle):
    def tells_too_much(number, message):
        return {**message, "task": "x"} if number else message

    found = record(served(bundle), count=3, change=tells_too_much)
    exchanges = list(found)
    exchanges[1].message["task"] = ""
    report = replay(_listed(found, exchanges), served(bundle), progress=Silent())
    assert report["looks"] == 2 and report["refused"]["count"] == 1 and "instruction" in report["refused"]["reasons"][0]


def _listed(found, exchanges):
    class Listed(recording_module.Recording):
        def __iter__(self):
            return iter(exchanges)

    return Listed(found.path)
