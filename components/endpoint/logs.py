"""Logs for people (text) or programs (a JSON object a line), each line with the request's, episode's and robot's id.

The ids of the request that is being answered are bound to its task: whatever logs on the way, the guard or an alarm,
needs not be handed them. An exception that leaves takes them along, to whoever logs it.
"""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO

_MAX_TEXT = 8192
_CARRIED = "lingbot_ids"  # attribute of an exception
_bound: ContextVar[Mapping[str, Any]] = ContextVar("lingbot_request", default=MappingProxyType({}))
# What every record has: the rest was given as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextlib.contextmanager
def bound(**ids: Any) -> Iterator[None]:
    """Log lines of this task carry these ids, those that are not None, until the block ends; so does an exception that
    ends it."""
    token = _bound.set(_with(ids))
    try:
        yield
    except Exception as error:
        error.__dict__.setdefault(_CARRIED, _bound.get())
        raise
    finally:
        _bound.reset(token)


def bind(**ids: Any) -> None:
    """Adds ids that became known inside a `bound` block; they end with it."""
    _bound.set(_with(ids))


def carried(error: BaseException | None) -> Mapping[str, Any]:
    """The ids of the request that an exception broke; empty where it broke none."""
    found: Mapping[str, Any] = {} if error is None else error.__dict__.get(_CARRIED, {})
    return found


def _of(record: logging.LogRecord) -> Mapping[str, Any]:
    return {**carried(record.exc_info[1] if record.exc_info else None), **_bound.get()}


def _with(ids: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**_bound.get(), **{name: value for name, value in ids.items() if value is not None}}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, milliseconds), level, logger, message, the bound ids, `extra`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_TEXT],
        }
        line |= _of(record)
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-_MAX_TEXT:]
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """As people read it; the ids follow the sentence."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        ids = " ".join(f"{name}={value}" for name, value in _of(record).items())
        return f"{text} [{ids}]" if ids else text


def configure(*, log_format: str = "text", level: str = "warning", stream: TextIO | None = None) -> logging.Handler:
    """Sends everything that is logged to stderr, in one format."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for earlier in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    # Other libraries stay at warnings: their information is not about robots.
    root.setLevel(logging.WARNING)
    logging.getLogger("lingbot").setLevel(level.upper())
    return handler


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that configuring again replaces it."""
