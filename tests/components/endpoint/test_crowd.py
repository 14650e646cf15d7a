"""Many robots and the probes at once, on a real server: nobody starves, and the probes answer meanwhile."""

import gc
import time
from types import SimpleNamespace

import pytest

from components.endpoint.benchmark import robots
from components.endpoint.benchmark.measure import ServeSettings, measure_serve
from components.endpoint.benchmark.robots import crowd, milliseconds
from components.endpoint.codec import pack
from components.endpoint.options import ServeOptions
from model.errors import UserError


def test_a_crowd_shares_the_model_and_the_probes_answer(start, slow_bundle, observation, monkeypatch):
    bundle = slow_bundle(seconds=0.01)
    server = start(bundle)
    labels = {"version": "7", "transport": "websocket", "outcome": "ok"}
    # Its time is told by answers: a machine that stalls takes none of a robot's.
    clock = SimpleNamespace(perf_counter=lambda: server.service.metrics.value("requests", **labels), sleep=time.sleep)
    monkeypatch.setattr(robots, "time", clock)
    asked, probes = crowd(server.host, pack(observation), robots=12, seconds=400)
    counts = sorted(len(robot) for robot in asked)
    assert counts[0] >= 3 and counts[0] * 2 >= counts[-1]  # nobody starves
    assert len(probes) > 4  # and each was answered with 200, or `crowd` had raised
    calls = server.service.metrics.value("batch_size", version="7")
    assert calls < sum(counts)  # they went through the model together
    assert server.service.batcher.pending == 0


def test_collecting_garbage_does_not_look_through_what_is_loaded(start, slow_bundle):
    server = start(slow_bundle())
    assert gc.get_freeze_count() > 10_000
    server.stop()
    assert gc.get_freeze_count() == 0


@pytest.mark.soak  # six server processes
def test_the_benchmark_measures_real_servers():
    said = []
    settings = ServeSettings(robots=3, seconds=0.5, model_seconds=0.02, image_size=32, questions=5)
    figures = measure_serve(settings, message=said.append)
    assert figures["overhead_ms"]["count"] == 5 and figures["bare_websocket_ms"]["p50"] > 0
    assert figures["of_it_ours_back_to_back_ms"]["count"] == 5
    assert figures["batches"][0]["answers_of_a_robot"]["fewest"] > 0 and len(figures["p99_ratio"]) == 1
    assert "3 robots" in said[-1]


def test_percentiles_are_in_milliseconds():
    assert milliseconds([0.001] * 99 + [0.5]) == {
        "p50": 1.0,
        "p99": pytest.approx(6, abs=1),
        "max": 500.0,
        "count": 100,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"episode_seconds": 40.0}, "from 0 to --drain-seconds"),
        ({"max_batch": 0}, "batch limit 0"),
        ({"poll_seconds": 0.0}, "time between polls 0.0 s must be over 0"),
        ({"metrics_port": 70000}, "metrics port 70000"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        ServeOptions(**options)


def test_a_simulated_model_takes_no_negative_time():
    with pytest.raises(UserError, match=r"extra_seconds is -0\.001: it must be 0 or more"):
        ServeSettings(extra_seconds=-0.001)
