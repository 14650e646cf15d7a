"""Client latency of many trials: the middle of their medians, the worst of their tails, and how many measured it."""

from model.evaluation.latency import client_latency, latency_of
from model.evaluation.records import Latency
from tests.model.evaluation.trial_records import record


def timed(seed: int, median: float, p99: float):
    return record(seed, True, client_latency_ms=Latency(median=median, p99=p99))


def test_trials_that_measured_nothing_do_not_count():
    found = client_latency([timed(0, 10.0, 90.0), timed(1, 30.0, 40.0), timed(2, 20.0, 50.0), record(3, True)])
    assert found == {"trials": 3, "median": 20.0, "p99": 90.0}


def test_trials_in_process_have_no_client():
    assert client_latency([record(0, True)]) is None and latency_of([]) is None
