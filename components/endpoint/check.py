"""Starts the server as a robot's operator would, asks it for actions over HTTP and over the websocket, and stops it."""

import base64
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from components import state
from components.endpoint.codec import pack, unpack
from components.endpoint.sample import sample_observation
from components.endpoint.server import READY_PREFIX
from model.errors import UserError
from model.progress import Progress, Silent

_REPEATS = 5
_STOP_SECONDS = 45.0


@contextmanager
def running_server(
    arguments: list[str], *, start_seconds: float = 120.0
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server process on a free port of loopback: its address (host:port) and itself. It is gone at the end.

    Raises:
        UserError: what the server says when it refuses to start.
        RuntimeError: it broke, or was not ready in time; with the end of its log.
    """
    command = [sys.executable, "-m", "components.endpoint.server", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        late = threading.Timer(start_seconds, process.kill)
        late.start()
        try:
            address = _address(process, log, start_seconds)
            late.cancel()
            yield address, process
        finally:
            late.cancel()
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def check_served(
    bundle: Path | None = None,
    alias: str | None = None,
    *,
    model: str = "",
    progress: Progress | None = None,
    start_seconds: float = 120.0,
) -> dict[str, Any]:
    """Serves a bundle folder, or the version that an alias points at, and checks that it answers.

    The same seed is asked for over HTTP (JSON) and over the websocket (msgpack): both answers must have the contract's
    shape, be finite, and be equal. Then the server gets SIGTERM and must end by itself with code 0.

    Args:
        bundle: folder of a bundle; else `alias`.
        alias: of the registry; "champion" when neither is given.
        model: registered model, needed when there are several.
        progress: told what is being done.
        start_seconds: how long the server may take to be ready.

    Returns:
        model_name, model_version, bundle_digest, horizon, ready_seconds, http_ms, websocket_ms and infer_ms (medians),
        stop_seconds.

    Raises:
        UserError: the server refuses to start, and says why.
        RuntimeError: it does not answer as it should.
    """
    progress = progress or Silent()
    started = time.monotonic()
    chosen = ["--bundle", str(bundle)] if bundle is not None else ["--alias", alias or "champion"]
    if model:
        chosen += ["--model", model]
    progress.message("starting the server")
    with running_server(chosen, start_seconds=start_seconds) as (address, process):
        ready_seconds = time.monotonic() - started
        progress.message(f"asking http://{address} for actions")
        answers = _ask(address)
        progress.message("stopping the server")
        stopping = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"the server did not end within {_STOP_SECONDS:.0f} s of SIGTERM") from error
        if code != 0:
            raise RuntimeError(f"the server ended with code {code} after SIGTERM instead of 0")
        return {**answers, "ready_seconds": ready_seconds, "stop_seconds": time.monotonic() - stopping}


def _ask(address: str) -> dict[str, Any]:
    import httpx
    from websockets.sync.client import connect

    with httpx.Client(base_url=f"http://{address}", timeout=60.0, trust_env=False) as client:
        ready = client.get("/readyz")
        if ready.status_code != 200:
            raise RuntimeError(f"/readyz answers {ready.status_code}: {ready.text}")
        with connect(f"ws://{address}/", compression=None, max_size=None, proxy=None) as socket:
            greeting = socket.recv()
            if isinstance(greeting, str):
                raise RuntimeError(f"the websocket begins with a text instead of its metadata: {greeting}")
            metadata = unpack(greeting)
            observation = sample_observation(metadata["contract"])
            as_json = {key: _json_value(value) for key, value in observation.items()}

            def over_http() -> dict[str, Any]:
                reply = client.post("/v1/infer", json=as_json)
                if reply.status_code != 200:
                    raise RuntimeError(f"POST /v1/infer answers {reply.status_code}: {reply.text}")
                return reply.json()

            def over_websocket() -> dict[str, Any]:
                socket.send(pack(observation))
                reply = socket.recv()
                if isinstance(reply, str):
                    raise RuntimeError(f"the websocket answers: {reply}")
                return unpack(reply)

            http_ms, http_replies = _timed(over_http)
            websocket_ms, websocket_replies = _timed(over_websocket)
    first = _valid("HTTP", http_replies[-1], metadata)
    second = _valid("websocket", websocket_replies[-1], metadata)
    if not np.array_equal(first, second):
        raise RuntimeError(
            f"HTTP and websocket answer the same seed differently, by up to {np.abs(first - second).max():.2e}"
        )
    return {
        "model_name": metadata["model_name"],
        "model_version": metadata["model_version"],
        "bundle_digest": metadata["bundle_digest"],
        "horizon": metadata["contract"]["horizon"],
        "http_ms": http_ms,
        "websocket_ms": websocket_ms,
        "infer_ms": statistics.median(reply["server_timing"]["infer_ms"] for reply in websocket_replies),
    }


def _timed(call: Callable[[], dict[str, Any]]) -> tuple[float, list[dict[str, Any]]]:
    """Median milliseconds of a call, and every answer."""
    times, replies = [], []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        replies.append(call())
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), replies


def _valid(transport: str, reply: Mapping[str, Any], metadata: Mapping[str, Any]) -> np.ndarray:
    contract = metadata["contract"]
    actions = np.asarray(reply["actions"], dtype=np.float32)
    expected = (contract["horizon"], len(contract["action"]))
    if actions.shape != expected:
        raise RuntimeError(f"{transport} answers with actions of shape {actions.shape} instead of {expected}")
    if not np.isfinite(actions).all():
        raise RuntimeError(f"{transport} answers with actions that are not finite")
    if reply["bundle_digest"] != metadata["bundle_digest"]:
        raise RuntimeError(f"{transport} answers from bundle {reply['bundle_digest']}, not {metadata['bundle_digest']}")
    return actions


def _json_value(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return {
        "dtype": value.dtype.name,
        "shape": list(value.shape),
        "base64": base64.b64encode(value.tobytes()).decode("ascii"),
    }


def _address(process: "subprocess.Popen[str]", log: Any, start_seconds: float) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(READY_PREFIX):
            return line.removeprefix(READY_PREFIX).split()[0].removeprefix("http://")
    code = process.wait()
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    if code == 2 and lines:
        raise UserError(lines[-1].removeprefix("error: "))
    end = "\n".join(lines[-20:])
    why = f"was not ready in {start_seconds:.0f} s" if code == -signal.SIGKILL else f"ended with code {code}"
    raise RuntimeError(f"the server {why} before it was ready; the end of its log:\n{end}")


def _python_path() -> str:
    """The checkout first, so that the server is the code that checks it."""
    given = os.environ.get("PYTHONPATH")
    return str(state.checkout()) + (os.pathsep + given if given else "")
