"""Traces of requests for OpenTelemetry, if the environment says where to: OTEL_EXPORTER_OTLP_ENDPOINT.

A request is one span with its stages below it (decode, queue, model, encode). It continues the trace of the robot that
sent it: W3C `traceparent`, a header over HTTP and a field of the message on the websocket. The SDK's own variables
choose the sampling, the service's name and what leaves with it. Without an endpoint nothing is imported or recorded.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE_NAME = "lingbot-endpoint"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a request: seconds after the request's start."""

    name: str
    start: float
    end: float


class Tracer:
    """Writes spans of requests that have been answered; they leave from a thread of the SDK, in batches."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource({"service.name": _SERVICE_NAME}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("lingbot.endpoint")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls) -> "Tracer | None":
        """A tracer if the environment names an endpoint."""
        return cls() if any(os.environ.get(name) for name in ENDPOINT_VARIABLES) else None

    def record(
        self,
        name: str,
        *,
        seconds: float,
        stages: Sequence[Stage] = (),
        parent: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> str:
        """Records a request that ended just now; returns its trace's id in hex.

        Args:
            name: of the span.
            seconds: how long it took.
            stages: its parts.
            parent: the sender's `traceparent`; what is none begins a trace of its own, as W3C asks.
            attributes: texts and numbers; None is left out.
            error: why it was refused.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        ended = time.time_ns()
        started = ended - int(seconds * 1e9)
        context = self._propagator.extract({"traceparent": parent} if parent else {})
        known = {key: value for key, value in (attributes or {}).items() if value is not None}
        span = self._tracer.start_span(name, context, SpanKind.SERVER, known, start_time=started)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        inside = set_span_in_context(span)
        for stage in stages:
            child = self._tracer.start_span(stage.name, inside, start_time=started + int(stage.start * 1e9))
            child.end(started + int(stage.end * 1e9))
        span.end(ended)
        return f"{span.get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()
