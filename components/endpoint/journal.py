"""What is written down of each request once it is answered or refused: a log line, and a trace if there is a tracer."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.endpoint.errors import Refused
from components.endpoint.sessions import Session
from components.endpoint.tracing import Stage, Tracer

logger = logging.getLogger("lingbot.endpoint.requests")
_TOLD = (
    "request_id", "episode_id", "model_name", "model_version", "route", "clipped_values", "slowed_values", "alarms",
)  # fmt: skip


@dataclass(kw_only=True)
class Exchange:
    """One message and what became of it. Times are in seconds."""

    session: Session | None = None
    transport: str
    message: Any = None
    reply: dict[str, Any] | None = None
    refusal: Refused | None = None
    decode: float = 0.0
    encode: float = 0.0
    total: float = 0.0


class Journal:
    """Writes exchanges down. Costs nothing but a check where neither the log nor a tracer wants them."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    @contextlib.contextmanager
    def exchange(self, transport: str) -> Iterator[Exchange]:
        """One request from its arrival to the block's end, when it is written down if it was answered or refused."""
        started = time.perf_counter()
        exchange = Exchange(transport=transport)
        try:
            yield exchange
        except Refused as refusal:
            exchange.refusal = refusal
            raise
        finally:
            exchange.total = time.perf_counter() - started
            if exchange.reply is not None or exchange.refusal is not None:
                self.write(exchange)

    def write(self, exchange: Exchange) -> None:
        """One exchange, after its reply was sent."""
        wanted = logger.isEnabledFor(logging.INFO)
        if not wanted and self._tracer is None:
            return
        facts = _facts(exchange)
        if self._tracer is not None:
            facts["trace_id"] = self._trace(self._tracer, exchange, facts)
        if wanted:
            sentence = "answered" if exchange.refusal is None else f"refused: {exchange.refusal}"
            logger.info("%s", sentence, extra=facts)

    def _trace(self, tracer: Tracer, exchange: Exchange, facts: Mapping[str, Any]) -> str:
        attributes = {f"lingbot.{name}": value for name, value in facts.items() if not isinstance(value, list)}
        parent = exchange.message.get("traceparent") if isinstance(exchange.message, Mapping) else None
        return tracer.record(
            "reset" if facts["outcome"] == "reset" else "infer",
            seconds=exchange.total,
            stages=_stages(exchange),
            parent=parent if isinstance(parent, str) else None,
            attributes=attributes,
            error=None if exchange.refusal is None else str(exchange.refusal),
        )


def _facts(exchange: Exchange) -> dict[str, Any]:
    reply, session, refusal = exchange.reply or {}, exchange.session, exchange.refusal
    outcome = f"refused_{refusal.status}" if refusal is not None else "ok" if "server_timing" in reply else "reset"
    facts: dict[str, Any] = {"transport": exchange.transport, "outcome": outcome}
    if session is not None:
        facts |= {"session_id": session.id, "client": session.client, "robot_id": session.robot}
        facts["episode_id"] = session.episode_id
    facts |= {name: reply[name] for name in _TOLD if name in reply}
    timing = reply.get("server_timing", {})
    facts |= {name: round(timing[name], 3) for name in ("queue_ms", "infer_ms") if name in timing}
    facts["total_ms"] = round(exchange.total * 1000, 3)
    if "batch" in timing:
        facts["batch"] = timing["batch"]
    return {name: value for name, value in facts.items() if value is not None}


def _stages(exchange: Exchange) -> list[Stage]:
    """One after the other from the start; the reply is encoded at the end."""
    timing = exchange.reply.get("server_timing", {}) if exchange.reply is not None else {}
    lengths = [
        ("decode", exchange.decode),
        ("queue", timing.get("queue_ms", 0.0) / 1000),
        ("model", timing.get("infer_ms", 0.0) / 1000),
    ]
    stages, at = [], 0.0
    for name, seconds in lengths:
        if seconds > 0:
            stages.append(Stage(name=name, start=at, end=at + seconds))
            at += seconds
    if exchange.encode > 0:
        stages.append(Stage(name="encode", start=max(at, exchange.total - exchange.encode), end=exchange.total))
    return stages
