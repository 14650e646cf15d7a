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
from pathlib import Path
from typing import Any

from components.endpoint.keys import KeyRing
from components.endpoint.logs import configure
from components.endpoint.options import KEYS_VARIABLE, ServeOptions, add_arguments, options_from
from components.endpoint.tls import TlsContext, TlsFiles
from model.errors import UserError

READY_PREFIX = "ready: "
logger = logging.getLogger("lingbot.endpoint")


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
        from components.endpoint.last_served import remember
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
                remember=remember,
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
        if served.remembered is not None:
            ready_line += f"; the registry is away: this is what was served here last, since {served.remembered}"
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
