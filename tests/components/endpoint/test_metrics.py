"""What Prometheus scrapes: declared names, bounded labels, a port of its own."""

import socket

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.endpoint.metrics import METRICS_PORT, Metrics, MetricsServer
from model.errors import UserError
from tests.components.waiting import LONG


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_what_was_counted_is_what_is_scraped():
    metrics = Metrics()
    for seconds in (0.001, 0.04, 0.2):
        metrics.observe("stage_seconds", seconds, version="7", stage="model")
    metrics.count("requests", version="7", transport="websocket", outcome="ok")
    metrics.count("requests", 2, version="7", transport="websocket", outcome="ok")
    metrics.set("queue_depth", 3)
    server = MetricsServer(metrics, host="127.0.0.1", port=0)
    try:
        text = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=LONG, trust_env=False).text
    finally:
        server.close()
    found = families(text)
    assert [s.value for s in found["lingbot_requests"].samples if s.name.endswith("_total")] == [3.0]
    assert found["lingbot_queue_depth"].samples[0].value == 3.0
    samples = found["lingbot_stage_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert buckets["0.005"] == 1 and buckets["0.05"] == 2 and buckets["+Inf"] == 3


def test_a_name_or_label_that_is_not_declared_is_our_mistake():
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.count("request", version="7")
    with pytest.raises(ValueError, match="label"):
        metrics.count("requests", robot="7")
    with pytest.raises(AssertionError, match="no counter"):
        metrics.count("queue_depth")


def test_a_version_that_left_leaves_no_series():
    metrics = Metrics()
    for version in ("7", "8"):
        metrics.set("model_info", 1, model="m", version=version, digest=version * 12, role="champion")
    metrics.forget("model_info", version="7")
    assert [s.labels["version"] for s in families(metrics.expose().decode())["lingbot_model_info"].samples] == ["8"]


def test_a_version_that_comes_back_is_scraped_again():
    metrics = Metrics()
    for value in (1, 2):
        metrics.set("running_episodes", value, version="7")
        assert metrics.value("running_episodes", version="7") == value
        metrics.forget("running_episodes", version="7")


def test_two_processes_of_one_class_do_not_share_counts():
    first, second = Metrics(), Metrics()
    first.count("faults", transport="http")
    assert (first.value("faults", transport="http"), second.value("faults", transport="http")) == (1, 0)


def test_a_taken_port_is_an_error_when_asked_for_and_a_free_one_when_not(caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=f"metrics port {taken.getsockname()[1]} .*--metrics-port"):
            MetricsServer(Metrics(), host="127.0.0.1", port=taken.getsockname()[1])
    first = MetricsServer(Metrics(), host="127.0.0.1")
    second = MetricsServer(Metrics(), host="127.0.0.1")
    try:
        assert second.port not in (first.port, METRICS_PORT)
        assert f"metrics are on port {second.port}" in caplog.text
    finally:
        first.close()
        second.close()
