"""The process of the review page: on this machine only, until Ctrl-C."""

import contextlib
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from model.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

HOST = "127.0.0.1"
STOP_SECONDS = 5  # a browser keeps connections open; what is being saved is done in less


def listen(port: int) -> socket.socket:
    """A socket on this machine's own address; port 0 is any free one.

    Raises:
        UserError: the port is in use, or not to be had.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        what = "is in use" if used else f"cannot be had ({error})"
        raise UserError(f"port {port} of {HOST} {what}: give another with --port, 0 takes any free one.") from error
    return listener


def serve(app: "FastAPI", listener: socket.socket, announce: Callable[[str], None]) -> None:
    """Serves until Ctrl-C, then returns.

    Args:
        announce: told the address, as http://127.0.0.1:8300.
    """
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOP_SECONDS, lifespan="off")
    announce(f"http://{HOST}:{listener.getsockname()[1]}")
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a review ends; uvicorn raises it again when it is done
        uvicorn.Server(config).run(sockets=[listener])
