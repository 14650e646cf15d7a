"""The process: which bundle, which address, when it is ready, and how it ends without losing a reply."""

import argparse
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from components.endpoint.keys import KEYS_VARIABLE, KeyRing
from components.endpoint.logs import LOG_FORMATS, LOG_LEVELS, configure
from components.endpoint.tls import TlsContext, TlsFiles
from model.errors import UserError

READY_PREFIX = "ready: "
logger = logging.getLogger("lingbot.endpoint")


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
            if not seconds > 0:
                raise UserError(f"{name} {seconds} s must be over 0")
        if not 0 <= self.episode_seconds <= self.drain_seconds:
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
    add("--deadline-seconds", type=float, default=30.0, help="for requests that name no deadline_ms (30)")
    add("--poll-seconds", type=float, default=5.0, help="how often the registry is asked who is the champion (5)")
    add("--episode-seconds", type=float, default=20.0, help="robots may end their episodes after SIGTERM (20)")
    add("--drain-seconds", type=float, default=30.0, help="the end after SIGTERM, in any case (30)")
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
    add("--record-share", type=float, default=0.1, help="of the episodes (0.1)")
    add("--record-megabytes", type=int, default=1000, help="that the folder may hold; the oldest go first (1000)")
    parser.add_argument("--reuse-port", action="store_true", help="share the port with another server process")


def options_from(arguments: argparse.Namespace) -> ServeOptions:
    names = (field.name for field in fields(ServeOptions))
    return ServeOptions(**{name: getattr(arguments, name) for name in names})


def serve(options: ServeOptions, announce: Callable[[str], None] = print) -> int:
    """Serves until SIGTERM or SIGINT, then drains. Returns 0.

    The address is taken before the bundle is loaded, so that a port in use is said at once.

    Raises:
        UserError: port in use, a host that needs keys, no such bundle, alias or model.
    """
    configure(log_format=options.log_format, level=options.log_level)
    keys = _keys(options.host)
    tls = TlsFiles.of(options.tls_certificate, options.tls_key)
    tls_context = None if tls is None else TlsContext(tls)
    if tls is None and not _is_loopback(options.host):
        logger.warning("keys and observations go over the network in the clear: give --tls-certificate and --tls-key")
    listener = _listen(options.host, options.port, reuse=options.reuse_port)
    with contextlib.ExitStack() as closing:
        closing.callback(listener.close)
        import torch

        from components.endpoint.app import create_app
        from components.endpoint.draining import DrainingServer
        from components.endpoint.metrics import Metrics, MetricsServer
        from components.endpoint.recording import Recorder
        from components.endpoint.resolve import resolve
        from components.endpoint.service import Service
        from components.endpoint.swapping import Follower
        from components.endpoint.tracing import Tracer
        from model.hardware import arithmetic_threads

        torch.set_num_threads(arithmetic_threads())
        served = resolve(bundle=options.bundle, alias=options.alias, model=options.model)
        metrics = Metrics()
        closing.callback(MetricsServer(metrics, host=options.host, port=options.metrics_port).close)
        service = Service(
            served,
            metrics=metrics,
            max_batch=options.max_batch,
            queue_limit=options.queue_limit,
            deadline_seconds=options.deadline_seconds,
            guard_mode=options.guard,
        )
        if options.record is not None:
            service.recorder = Recorder(
                options.record,
                service.metadata,
                share=options.record_share,
                max_bytes=options.record_megabytes * 1_000_000,
                metrics=metrics,
            )
            closing.callback(service.recorder.close)
        host, port = listener.getsockname()[:2]
        background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        follower = None
        if served.alias is not None:
            follower = Follower(
                service,
                model=served.model_name,
                alias=served.alias,
                poll_seconds=options.poll_seconds,
                endpoint=f"{socket.gethostname()}-{port}-{os.getpid()}",
            )
            background.append(follower.run)
        if tls_context is not None:
            background.append(tls_context.follow)
        tracer = Tracer.from_environment()
        if tracer is not None:
            closing.callback(tracer.close)
        secure = "" if tls_context is None else "s"
        shown = f"[{host}]" if ":" in host else host
        ready_line = (
            f"{READY_PREFIX}http{secure}://{shown}:{port} and ws{secure}://{shown}:{port} serve {served.model_name} "
            f"version {served.model_version} (bundle {served.bundle.digest[:12]})"
        )
        server = DrainingServer(
            create_app(service, keys=keys, follower=follower, tracer=tracer),
            tls=None if tls_context is None else tls_context.context,
            drain_seconds=options.drain_seconds,
            episode_seconds=options.episode_seconds,
            hand_over=options.reuse_port,
            background=background,
            on_ready=lambda: announce(ready_line),
        )
        server.run(sockets=[listener])
    return 0


def _keys(host: str) -> KeyRing | None:
    path = os.environ.get(KEYS_VARIABLE)
    if path:
        return KeyRing(Path(path))
    if not _is_loopback(host):
        raise UserError(
            f"host {host} can be reached from other machines, and without keys anybody there could drive the robot: "
            f"set {KEYS_VARIABLE} to a file of keys, or leave --host at 127.0.0.1"
        )
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int, *, reuse: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        # Listening is what fails when another socket of the same address listens already.
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use: stop what listens there, or choose another --port"
            ) from error
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another one"
        ) from error
    return listener


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m components.endpoint.server`: the image's entry, the same as `lingbot serve`."""
    parser = argparse.ArgumentParser(prog="components.endpoint.server", description="Serve a policy to robots.")
    add_arguments(parser)
    try:
        return serve(options_from(parser.parse_args(arguments)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
