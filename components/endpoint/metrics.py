"""What Prometheus reads of one endpoint: each metric is declared here once, with its labels; callers name it.

    metrics = Metrics()
    metrics.count("requests", version="7", transport="websocket", outcome="ok")
    metrics.observe("stage_seconds", 0.041, version="7", stage="model")
    metrics.set("queue_depth", 3)

They stand on a port of their own (9400), so that who may scrape need not be let in to the robots' port. Label values
come from the server (versions, stages, the contract's names), never from a client, so their number is bounded; what a
version left is dropped with `forget`.
"""

import errno
import logging
import threading
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.registry import Collector

from model.errors import UserError

METRICS_PORT = 9400
_PREFIX = "lingbot_"
# From a tenth of the overhead that is allowed (2 ms) to a call that a probe gives up.
_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_RADIANS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
logger = logging.getLogger("lingbot.endpoint")


@dataclass(frozen=True, kw_only=True)
class _Counter:
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Gauge:
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Histogram:
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = _SECONDS


_DECLARED: dict[str, _Counter | _Gauge | _Histogram] = {
    "requests": _Counter(
        help="Messages by how they ended: ok, reset or refused_STATUS; what broke counts as a fault.",
        labels=("version", "transport", "outcome"),
    ),
    "observations": _Counter(help="Observations answered with an action chunk.", labels=("version",)),
    "stage_seconds": _Histogram(
        help="Time of a request by stage: decode, queue, model, encode, total.", labels=("version", "stage")
    ),
    "batch_size": _Histogram(help="Observations in one call of the model.", labels=("version",), buckets=_SIZES),
    "queue_depth": _Gauge(help="Requests that wait for the model or are in it."),
    "dropped": _Counter(
        help="Requests that never reached the model: expired (past their deadline) or superseded (latest wins).",
        labels=("version", "reason"),
    ),
    "connections": _Gauge(help="Open websockets."),
    "episodes": _Counter(help="Episodes begun, by the version that they keep.", labels=("version",)),
    "running_episodes": _Gauge(help="Episodes under way, by the version that they keep.", labels=("version",)),
    "guarded_values": _Counter(
        help="Action values outside a limit (position or velocity) and what was done: clamped or rejected.",
        labels=("version", "limit", "action"),
    ),
    "unsafe_chunks": _Counter(
        help="Chunks of which nothing was sent: shape, not_finite, position or velocity.", labels=("version", "reason")
    ),
    "input_alarms": _Counter(
        help="Observations unlike the training data: swapped_cameras, unlike_training, frozen_camera, state_range or "
        "state_units; `input` is the camera or joint.",
        labels=("version", "alarm", "input"),
    ),
    "swaps": _Counter(help="Changes of the served bundle: swapped, refused or failed.", labels=("result",)),
    "model_info": _Gauge(
        help="1 for each version that is loaded; role is champion, canary or shadow.",
        labels=("model", "version", "digest", "role"),
    ),
    "canary_share": _Gauge(help="Share of new episodes that the canary gets, 0 to 1."),
    "registry_stale_seconds": _Gauge(help="Seconds since the registry answered last; what is served stays."),
    "shadow_difference": _Histogram(
        help="Largest difference of a shadow's chunk to the one that was sent, in the robot's units.",
        labels=("version",),
        buckets=_RADIANS,
    ),
    "shadow": _Counter(
        help="Observations given to the shadow: compared, skipped (busy) or failed.", labels=("version", "result")
    ),
    "recorded": _Counter(help="Exchanges by recording: kept, or left_out at the size cap.", labels=("result",)),
    "unauthorized": _Counter(
        help="Requests turned away: no valid key, no such scope, or a page's origin where there are no keys.",
        labels=("reason",),
    ),
    "faults": _Counter(help="Internal errors; each has a number in the log.", labels=("transport",)),
    "ready": _Gauge(help="1 when /readyz answers 200."),
    "draining": _Gauge(help="1 from SIGTERM on."),
}  # fmt: skip


class Metrics:
    """The metrics of one process, in a registry of their own. Safe to call from any thread.

    A name that is not declared, or other labels than the declared ones, are our own mistake: KeyError, ValueError.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._metrics = {name: self._make(name, declared) for name, declared in _DECLARED.items()}
        # A series by its name and labels: looking it up by prometheus_client's own checks costs a request 0.1 ms.
        self._series: dict[tuple[Any, ...], Counter | Gauge | Histogram] = {}

    def _make(self, name: str, declared: _Counter | _Gauge | _Histogram) -> Counter | Gauge | Histogram:
        full = _PREFIX + name
        if isinstance(declared, _Counter):
            return Counter(full, declared.help, declared.labels, registry=self.registry)
        if isinstance(declared, _Gauge):
            return Gauge(full, declared.help, declared.labels, registry=self.registry)
        return Histogram(full, declared.help, declared.labels, registry=self.registry, buckets=declared.buckets)

    def _find(self, name: str, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        key = (name, *labels.items())
        found = self._series.get(key)
        if found is None:
            metric = self._metrics[name]
            found = self._series[key] = metric.labels(**labels) if labels else metric
        return found

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Adds to a counter."""
        series = self._find(name, labels)
        assert isinstance(series, Counter), f"{name} is no counter"
        series.inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram: seconds for those that say so."""
        series = self._find(name, labels)
        assert isinstance(series, Histogram), f"{name} is no histogram"
        series.observe(value)

    def set(self, name: str, value: float, **labels: str) -> None:
        """The present value of a gauge."""
        series = self._find(name, labels)
        assert isinstance(series, Gauge), f"{name} is no gauge"
        series.set(value)

    def forget(self, name: str, **labels: str) -> None:
        """Drops the series whose labels include these: of a version that is not loaded any more."""
        self._metrics[name].remove_by_labels(labels)
        self._series.clear()

    def value(self, name: str, **labels: str) -> float:
        """What a counter or gauge stands at, 0 when it never counted; a histogram's number of values."""
        full = _PREFIX + name
        samples = {_Counter: f"{full}_total", _Gauge: full, _Histogram: f"{full}_count"}
        return self.registry.get_sample_value(samples[type(_DECLARED[name])], labels) or 0.0

    def expose(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def add(self, collector: Collector) -> None:
        """Registers a collector that is asked when Prometheus scrapes: for what is known without counting."""
        self.registry.register(collector)


class MetricsServer:
    """`GET /metrics` on a port of its own, from a thread of its own: a scrape is answered while the loop is busy.

    Raises:
        UserError: when a port that was asked for is in use.
    """

    def __init__(self, metrics: Metrics, *, host: str, port: int | None = None) -> None:
        """`port` of None: 9400, or any free one where that is taken (a second server on a laptop). 0: any free one."""
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = self._start(metrics, host, METRICS_PORT if port is None else port)
        except OSError as error:
            if port is not None or error.errno != errno.EADDRINUSE:
                raise UserError(
                    f"metrics port {METRICS_PORT if port is None else port} of {host} cannot be taken "
                    f"({error.strerror or error}): choose another --metrics-port"
                ) from error
            self._server, self._thread = self._start(metrics, host, 0)
            logger.warning("port %d is in use: metrics are on port %d", METRICS_PORT, self.port)

    @staticmethod
    def _start(metrics: Metrics, host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
        return start_http_server(port, addr=host, registry=metrics.registry)

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
