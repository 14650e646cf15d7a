"""What `lingbot serve` takes, by itself: a command line is read, and `--help` answered, without loading the server."""

import argparse
import math
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from components.arguments import number
from model.errors import UserError

KEYS_VARIABLE = "LINGBOT_API_KEYS_FILE"
LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What `lingbot serve` takes. `bundle` of None serves `alias` of `model` from the registry."""

    bundle: Path | None = None
    alias: str = "champion"
    model: str = ""  # empty: the only registered model
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one; the ready line names it
    metrics_port: int | None = None  # None: 9400, or any free one where that is taken
    max_batch: int = 16
    queue_limit: int = 64
    deadline_seconds: float = 30.0
    poll_seconds: float = 5.0
    episode_seconds: float = 20.0
    drain_seconds: float = 30.0
    reuse_port: bool = False
    record: Path | None = None  # folder for sampled traffic; it holds what the cameras saw
    record_share: float = 0.1
    record_megabytes: int = 1000
    guard: Literal["clamp", "reject"] = "clamp"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("metrics port", self.metrics_port or 0)):
            if not 0 <= port <= 65535:
                raise UserError(f"{name} {port} is not from 0 to 65535")
        for name, count in (("queue limit", self.queue_limit), ("batch limit", self.max_batch)):
            if count < 1:
                raise UserError(f"{name} {count} must be at least 1")
        for name, seconds in (("deadline", self.deadline_seconds), ("time between polls", self.poll_seconds)):
            if not 0 < seconds < math.inf:
                raise UserError(f"{name} {seconds} s must be over 0 and finite")
        if not 0 <= self.episode_seconds <= self.drain_seconds < math.inf:
            raise UserError(
                f"robots get {self.episode_seconds:.0f} s to end their episodes in a drain of {self.drain_seconds:.0f} "
                f"s: --episode-seconds must be from 0 to --drain-seconds"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, shared by `lingbot serve` and `python -m components.endpoint.server`."""
    parser.add_argument("--bundle", type=Path, metavar="PATH", help="serve a bundle folder, without the registry")
    parser.add_argument("--alias", default="champion", help="serve the version that this alias points at (champion)")
    parser.add_argument("--model", default="", metavar="NAME", help="registered model; needed when there are several")
    parser.add_argument("--port", type=int, default=8000, help="8000; 0 takes a free one and prints it")
    parser.add_argument("--host", default="127.0.0.1", help=f"127.0.0.1; another one needs keys ({KEYS_VARIABLE})")
    add = partial(parser.add_argument, metavar="N")
    add("--metrics-port", type=int, help="Prometheus reads here; 9400, or a free one where that is taken")
    add("--max-batch", type=int, default=16, help="observations that go through the model together (16)")
    add("--queue-limit", type=int, default=64, help="requests that may wait for the model (64)")
    add("--deadline-seconds", type=number, default=30.0, help="for requests that name no deadline_ms (30)")
    add("--poll-seconds", type=number, default=5.0, help="how often the registry is asked who is the champion (5)")
    add("--episode-seconds", type=number, default=20.0, help="robots may end their episodes after SIGTERM (20)")
    add("--drain-seconds", type=number, default=30.0, help="the end after SIGTERM, in any case (30)")
    parser.add_argument(
        "--guard",
        choices=("clamp", "reject"),
        default="clamp",
        help="what happens to actions outside the limits (clamp)",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM, with its chain; for https and wss")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM without a passphrase")
    parser.add_argument(
        "--log-format", choices=LOG_FORMATS, default="text", help="text, or a JSON object a line with the ids (text)"
    )
    parser.add_argument(
        "--log-level", choices=LOG_LEVELS, default="warning", help="info writes a line for each request (warning)"
    )
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="keep sampled traffic, for lingbot models replay")
    add("--record-share", type=number, default=0.1, help="of the episodes (0.1)")
    add("--record-megabytes", type=int, default=1000, help="that the folder may hold; the oldest go first (1000)")
    parser.add_argument("--reuse-port", action="store_true", help="share the port with another server process")


def options_from(arguments: argparse.Namespace) -> ServeOptions:
    names = (field.name for field in fields(ServeOptions))
    return ServeOptions(**{name: getattr(arguments, name) for name in names})
