"""The served policy: a small websocket server that speaks openpi's protocol, with a fault or without."""

import threading
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from websockets.sync.server import serve

from lingbot_client.codec import pack, unpack
from model.errors import UserError
from model.evaluation.closed_loop import Bench, plan
from model.evaluation.records import ERROR, FAILURE, SUCCESS
from model.evaluation.trial import Pace
from model.evaluation.workers import LocalCrew, run_jobs
from model.progress import Silent
from tests.model.evaluation.fakes import FakeBundle, FakeSimulation


@contextmanager
def serving(answer, *, digest="fake-digest", **facts):
    """`answer` takes an observation and returns actions, or a sentence that refuses it."""
    seen = []

    def handle(socket):
        socket.send(pack({"bundle_digest": digest, "model_version": "7", **facts}))
        for frame in socket:
            message = unpack(frame)
            seen.append((message, socket.request.headers.get("Authorization")))
            reply = answer(message)
            if reply is None:
                return
            socket.send(reply if isinstance(reply, str) else pack({"actions": reply}))

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", seen
        server.shutdown()
        thread.join()


def by_bundle(message):
    """As the policy in process would answer."""
    from model.inference import Observation

    images = {"cam_high": message["observation.images.cam_high"]}
    observation = Observation(images=images, state=message["observation.state"], task=message["task"])
    return FakeBundle().infer([observation], seeds=[message["seed"]])[0]


def trials(server="", key="", count=2, pace=Pace(execute_steps=3)):  # noqa: B008  it is frozen
    bench = Bench(FakeBundle(), FakeSimulation, trajectory=None, pace=pace, server=server, key=key)
    jobs = plan(("policy",), task="lift_right", other_task="lift_left", trials=count)
    records = [bench.run(job) for job in jobs]
    bench.close()
    return records


def test_a_served_policy_ends_its_trials_as_the_one_in_process():
    with serving(by_bundle) as (url, seen):
        served = trials(url, key="secret")
    for one, other in zip(served, trials(), strict=True):
        assert (one.outcome, one.checkpoints, one.seconds, one.looks) == (
            other.outcome, other.checkpoints, other.seconds, other.looks,
        )  # fmt: skip
        assert one.model_version == "7" and other.model_version == ""
        assert one.client_latency_ms.p99 >= one.client_latency_ms.median > 0 and other.client_latency_ms is None
    message, authorization = seen[0]
    assert set(message) == {"observation.images.cam_high", "observation.state", "task", "seed"}
    assert authorization == "Api-Key secret"


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (lambda message: np.full((8, 2), np.nan), FAILURE, "returned 16 values that are not finite"),
        (lambda message: np.zeros((8, 5)), FAILURE, r"returned shape (8, 5), not (steps, 2)"),
        (lambda message: "the state is missing", ERROR, "refused: the state is missing"),
        (lambda message: None, ERROR, "did not answer: ws://"),
    ],
)
def test_what_goes_wrong_ends_that_trial_and_is_named(answer, outcome, words):
    with serving(answer) as (url, _):
        for record in trials(url):
            assert record.outcome == outcome and words in record.reason and "(look 1, step 0)" in record.reason


def test_a_server_that_is_away_is_an_error_of_the_trial():
    with serving(by_bundle) as (url, _):
        pass
    reason = trials(url, count=1)[0].reason
    assert "did not answer" in reason and "ConnectionRefusedError" in reason


def test_a_trial_that_a_server_spoiled_is_run_again_when_the_evaluation_goes_on(tmp_path):
    jobs = plan(("policy",), task="lift_right", other_task="lift_left", trials=3)

    def run(answer):
        with serving(answer) as (url, seen):
            bench = Bench(FakeBundle(), FakeSimulation, trajectory=None, pace=Pace(execute_steps=3), server=url)
            records = run_jobs(jobs, LocalCrew(bench), scratch=tmp_path / "trials", progress=Silent())
            bench.close()
        return [record.outcome for record in records], len(seen)

    # the server refuses the second trial's first look: two seeds are near, the third is not
    looks = iter(range(100))
    outcomes, _ = run(lambda message: "too many robots" if next(looks) == 2 else by_bundle(message))
    assert outcomes.count(ERROR) == 1
    outcomes, asked = run(by_bundle)
    assert outcomes == [SUCCESS] * 3 and 1 <= asked <= 3, "the other two trials are not repeated"


def test_another_bundle_than_the_evaluated_one_is_refused():
    with (
        serving(by_bundle, digest="other") as (url, _),
        pytest.raises(UserError, match="it is bundle other, wanted is fake-digest"),
    ):
        trials(url)


def test_a_robot_that_goes_on_meanwhile_says_with_what():
    pace = Pace(execute_steps=3, latency_steps=1, real_time=True)
    with serving(by_bundle, real_time_chunking=["prev_chunk_left_over"]) as (url, seen):
        looks = [record.looks for record in trials(url, count=3, pace=pace)]
    told = [message for message, _ in seen if "prev_chunk_left_over" in message]
    assert len(told) == sum(looks) - len(looks) > 0, "each look but the first of a trial"
    for (before, _), (message, _) in pairwise(seen):
        if "prev_chunk_left_over" in message:
            np.testing.assert_array_equal(message["prev_chunk_left_over"], by_bundle(before)[3:])
            assert message["inference_delay"] == 1


def test_nothing_is_said_of_a_chunk_that_is_over():
    pace = Pace(execute_steps=8, real_time=True)  # the whole of it
    with serving(by_bundle, real_time_chunking=["prev_chunk_left_over"]) as (url, seen):
        trials(url, count=3, pace=pace)
    assert seen and not any("prev_chunk_left_over" in message for message, _ in seen)


def test_a_server_that_would_answer_with_fresh_chunks_is_refused():
    pace = Pace(execute_steps=3, latency_steps=1, real_time=True)
    with serving(by_bundle) as (url, _), pytest.raises(UserError, match="does not say that it does real-time chunking"):
        trials(url, count=3, pace=pace)
