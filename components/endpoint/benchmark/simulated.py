"""A server whose model takes a known time: what is measured against it is the endpoint's own.

The model sleeps, as a process sleeps that waits for an accelerator: it takes nothing from the cores that the endpoint
needs. Everything before and after it is what robots meet.
"""

import argparse
import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.endpoint.codec import pack
from components.endpoint.server import READY_PREFIX


class SimulatedBundle:
    """A bundle's contract and robot with a model of `seconds` for one observation and `extra` for each further one."""

    def __init__(self, bundle: Any, seconds: float, extra: float) -> None:
        self.contract, self.robot, self.digest, self.preparation = (
            bundle.contract,
            bundle.robot,
            bundle.digest,
            bundle.preparation,
        )
        self._seconds, self._extra = seconds, extra
        self._chunk = np.full((bundle.contract["horizon"], len(bundle.contract["action"])), 0.1, np.float32)

    def self_test(self) -> float:
        return 0.0

    def infer(self, observations: Sequence[Any], *, seeds: Sequence[int]) -> np.ndarray:
        time.sleep(self._seconds + self._extra * (len(observations) - 1))
        return np.stack([self._chunk] * len(seeds))


def serve_bare(seconds: float) -> None:
    """The same web server around nothing but a wait: what the bytes alone cost, to and fro."""
    import uvicorn
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect

    app = FastAPI()

    @app.websocket("/")
    async def answer(robot: WebSocket) -> None:
        await robot.accept()
        await robot.send_bytes(pack({}))
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await robot.receive_bytes()
                started = time.perf_counter()
                if seconds:
                    await asyncio.sleep(seconds)
                waited = (time.perf_counter() - started) * 1000
                await robot.send_bytes(pack({"server_timing": {"infer_ms": waited}}))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"{READY_PREFIX}http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_config=None, access_log=False, ws_per_message_deflate=False)
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """`python -m components.endpoint.benchmark.simulated`: serves on a free port of loopback until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--extra", type=float, default=0.0)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--bare", action="store_true", help="no endpoint: a websocket that answers anything at once")
    options = parser.parse_args()
    if options.bare:
        serve_bare(options.seconds)
        return

    import torch

    from components.endpoint.app import create_app
    from components.endpoint.draining import DrainingServer
    from components.endpoint.served import Served
    from components.endpoint.service import Service
    from model.bundle import create_bundle

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        bundle: Any = SimulatedBundle(create_bundle(Path(folder) / "bundle"), options.seconds, options.extra)
        served = Served(bundle=bundle, model_name="lingbot-vla-simulated", model_version="1")
        ready = f"{READY_PREFIX}http://127.0.0.1:{listener.getsockname()[1]}"
        DrainingServer(
            create_app(Service(served, max_batch=options.max_batch)),
            drain_seconds=5.0,
            on_ready=lambda: print(ready, flush=True),
        ).run(sockets=[listener])


if __name__ == "__main__":
    main()
