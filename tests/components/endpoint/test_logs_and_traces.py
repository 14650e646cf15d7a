"""What is written down of a request: a JSON line with its ids, and spans that reach a real OTLP receiver."""

import io
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from components.endpoint import logs
from components.endpoint.app import create_app
from components.endpoint.codec import pack
from components.endpoint.journal import Journal
from components.endpoint.tracing import Tracer
from tests.components.waiting import wait_for


@pytest.fixture
def written():
    """Configures JSON logs at `info`; calling it gives the lines so far."""
    stream, root = io.StringIO(), logging.getLogger()
    levels = root.level, logging.getLogger("lingbot").level
    handler = logs.configure(log_format="json", level="info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(levels[0])
    logging.getLogger("lingbot").setLevel(levels[1])


def requests_of(lines, count):
    """The reply is sent before its line is written."""

    def found():
        return [line for line in lines() if line["logger"] == "lingbot.endpoint.requests"]

    wait_for(lambda: len(found()) >= count, f"{count} lines")
    return found()


def test_each_request_is_a_line_with_its_ids(start, slow_bundle, observation, robot, http, written):
    server = start(slow_bundle())
    with robot(server.host) as client:
        client.ask({"reset": True, "episode_id": "e-1", "robot_id": "arm-3"})
        client.ask(observation | {"request_id": "r-1"})
        client.ask({"task": "nothing to see"})
    http.post(f"{server.url}/v1/infer", content=b"{", headers={"content-type": "application/json"})
    reset, answered, refused, broken = requests_of(written, 4)
    assert (reset["outcome"], reset["episode_id"], reset["robot_id"]) == ("reset", "e-1", "arm-3")
    ids = {name: answered[name] for name in ("request_id", "episode_id", "robot_id", "model_version", "outcome")}
    expected = {"request_id": "r-1", "episode_id": "e-1", "robot_id": "arm-3", "model_version": "7", "outcome": "ok"}
    assert ids == expected and answered["session_id"] == reset["session_id"]
    assert answered["total_ms"] >= answered["infer_ms"] >= 0 and answered["time"].endswith("Z")
    assert refused["outcome"] == "refused_422" and refused["message"].startswith("refused: no observation")
    assert (broken["outcome"], broken["transport"]) == ("refused_400", "http") and "session_id" not in broken


def test_what_logs_on_the_way_carries_the_request_s_ids(start, slow_bundle, observation, robot, written):
    server = start(slow_bundle())
    odd = observation | {"observation.state": np.full(14, 40.0, dtype=np.float32), "robot_id": "arm-9"}
    with robot(server.host) as client:
        for number in range(3):
            client.ask(odd | {"request_id": f"r-{number}"})
    alarm = next(line for line in written() if line["message"].startswith("input alarm"))
    assert (alarm["request_id"], alarm["robot_id"], alarm["alarm"]) == ("r-2", "arm-9", "state_units")
    assert alarm["level"] == "warning"


def test_a_fault_carries_the_ids_of_the_request_that_it_broke(start, slow_bundle, observation, robot, http, written):
    def broken(observations, *, seeds):
        raise RuntimeError("weights on fire")

    model = slow_bundle()
    model.infer = broken
    server = start(model)
    asked = observation | {"episode_id": "e-1", "robot_id": "arm-3"}
    with robot(server.host) as client, pytest.raises(ConnectionClosed):
        client.ask(asked | {"request_id": "r-1"})
    body, headers = pack(asked | {"request_id": "r-2"}), {"content-type": "application/msgpack"}
    assert http.post(f"{server.url}/v1/infer", content=body, headers=headers).status_code == 500

    def faults():
        return [line for line in written() if line["message"].startswith("fault ")]

    wait_for(lambda: len(faults()) == 2, "two faults")
    names = ("request_id", "episode_id", "robot_id", "version")
    assert [tuple(line[name] for name in names) for line in faults()] == [
        ("r-1", "e-1", "arm-3", "7"),
        ("r-2", "e-1", "arm-3", "7"),
    ]


def test_an_exception_is_one_line_and_text_shows_the_ids(written):
    with logs.bound(request_id="r-5", robot_id=None):
        try:
            raise RuntimeError("weights on fire")
        except RuntimeError:
            logging.getLogger("lingbot.endpoint").exception("broke")
        record = logging.makeLogRecord({"name": "x", "levelname": "ERROR", "msg": "broke"})
        assert logs.TextFormatter().format(record) == "ERROR x: broke [request_id=r-5]"
    line = written()[-1]
    assert line["request_id"] == "r-5" and "robot_id" not in line
    assert "weights on fire" in line["exception"]
    assert logs.TextFormatter().format(record) == "ERROR x: broke"


@pytest.fixture
def receiver(monkeypatch):
    """An OTLP receiver on loopback; gives the spans that reached it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            message = ExportTraceServiceRequest.FromString(body)
            for resource in message.resource_spans:
                name = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
                spans.extend((name, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield spans
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_request_continues_the_robot_s_trace_with_its_stages(start, slow_bundle, observation, robot, receiver):
    tracer = Tracer.from_environment()
    server = start(slow_bundle(seconds=0.05))
    server.service.journal = Journal(tracer)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with robot(server.host) as client:
        client.ask(observation | {"traceparent": f"00-{trace}-{parent}-01", "robot_id": "arm-3"})
        client.ask({"task": "no picture", "traceparent": "not a parent"})
    server.stop()
    tracer.close()
    spans = {span.name: span for name, span in receiver if span.trace_id.hex() == trace}
    assert set(spans) == {"infer", "decode", "queue", "model", "encode"}
    root = spans["infer"]
    assert root.parent_span_id.hex() == parent and receiver[0][0] == "lingbot-endpoint"
    attributes = {a.key: a.value.string_value for a in root.attributes}
    assert attributes["lingbot.model_version"] == "7" and attributes["lingbot.robot_id"] == "arm-3"
    assert all(span.parent_span_id == root.span_id for name, span in spans.items() if name != "infer")
    seconds = {name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for name, span in spans.items()}
    assert seconds["model"] >= 0.05 and seconds["infer"] >= seconds["model"]
    assert all(root.start_time_unix_nano <= s.start_time_unix_nano <= root.end_time_unix_nano for s in spans.values())
    refused = next(span for _, span in receiver if span.trace_id.hex() != trace and span.name == "infer")
    assert refused.status.code == 2 and refused.status.message.startswith("no observation")


def test_without_an_endpoint_nothing_is_traced(monkeypatch, slow_bundle, make_service):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert Tracer.from_environment() is None
    service = make_service(slow_bundle())
    create_app(service)
    assert service.journal._tracer is None
    service.runner.close()


def test_a_request_s_header_names_its_trace_over_http(start, slow_bundle, observation, http, receiver):
    tracer = Tracer.from_environment()
    server = start(slow_bundle())
    server.service.journal = Journal(tracer)
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"content-type": "application/msgpack", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert http.post(f"{server.url}/v1/infer", content=pack(observation), headers=headers).status_code == 200
    server.stop()
    tracer.close()
    assert {"infer", "model"} <= {span.name for _, span in receiver if span.trace_id.hex() == trace}
