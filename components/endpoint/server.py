"""The process: which bundle, which address, when it is ready, and how it ends without losing a reply."""

import argparse
import errno
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.endpoint.keys import KEYS_VARIABLE, KeyRing
from model.errors import UserError

READY_PREFIX = "ready: "


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What `lingbot serve` takes. `bundle` of None serves `alias` of `model` from the registry."""

    bundle: Path | None = None
    alias: str = "champion"
    model: str = ""  # empty: the only registered model
    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one; the ready line names it
    queue_limit: int = 16
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"port {self.port} is not from 0 to 65535")
        if self.queue_limit < 1:
            raise UserError(f"queue limit {self.queue_limit} must be at least 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, shared by `lingbot serve` and `python -m components.endpoint.server`."""
    parser.add_argument("--bundle", type=Path, metavar="PATH", help="serve a bundle folder, without the registry")
    parser.add_argument("--alias", default="champion", help="serve the version that this alias points at (champion)")
    parser.add_argument("--model", default="", metavar="NAME", help="registered model; needed when there are several")
    parser.add_argument("--port", type=int, default=8000, help="8000; 0 takes a free one and prints it")
    parser.add_argument("--host", default="127.0.0.1", help=f"127.0.0.1; another one needs keys ({KEYS_VARIABLE})")
    parser.add_argument("--queue-limit", type=int, default=16, help="requests that may wait for the model (16)")


def options_from(arguments: argparse.Namespace) -> ServeOptions:
    return ServeOptions(
        bundle=arguments.bundle,
        alias=arguments.alias,
        model=arguments.model,
        host=arguments.host,
        port=arguments.port,
        queue_limit=arguments.queue_limit,
    )


def serve(options: ServeOptions, announce: Callable[[str], None] = print) -> int:
    """Serves until SIGTERM or SIGINT, then drains. Returns 0.

    The address is taken before the bundle is loaded, so that a port in use is said at once.

    Raises:
        UserError: port in use, a host that needs keys, no such bundle, alias or model.
    """
    keys = _keys(options.host)
    listener = _listen(options.host, options.port)
    try:
        import torch

        from components.endpoint.app import create_app
        from components.endpoint.draining import DrainingServer
        from components.endpoint.resolve import resolve
        from components.endpoint.service import Service
        from model.hardware import arithmetic_threads

        torch.set_num_threads(arithmetic_threads())
        served = resolve(bundle=options.bundle, alias=options.alias, model=options.model)
        service = Service(served, queue_limit=options.queue_limit)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        ready_line = (
            f"{READY_PREFIX}http://{shown}:{port} and ws://{shown}:{port} serve {served.model_name} "
            f"version {served.model_version} (bundle {served.bundle.digest[:12]})"
        )
        server = DrainingServer(
            create_app(service, keys=keys), drain_seconds=options.drain_seconds, on_ready=lambda: announce(ready_line)
        )
        server.run(sockets=[listener])
    finally:
        listener.close()
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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        return serve(options_from(parser.parse_args(arguments)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
