"""Robots that ask as fast as they are answered, and probes beside them; each keeps its times."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from websockets.sync.client import ClientConnection, connect

from components.endpoint.codec import unpack


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question: seconds until its answer, and what of them the model took."""

    seconds: float
    model_seconds: float


def ask(address: str, frame: bytes, until: Callable[[int], bool]) -> list[Asked]:
    """One robot: sends `frame`, waits for the answer, again, while `until(answers so far)` is False.

    Raises:
        RuntimeError: the endpoint answered with a sentence.
    """
    asked: list[Asked] = []
    with _connected(address) as socket:
        while not until(len(asked)):
            asked.append(_ask(socket, frame))
    return asked


def ask_in_turn(addresses: Sequence[str], frame: bytes, questions: int) -> list[list[Asked]]:
    """One robot that asks several servers one after the other, again and again: whatever else the machine does meets
    all of them alike. The answers of each.

    Raises:
        RuntimeError: a server answered with a sentence.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_connected(address)) for address in addresses]
        turns = [[_ask(socket, frame) for socket in sockets] for _ in range(questions)]
    return [list(answers) for answers in zip(*turns, strict=True)]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[ClientConnection]:
    with connect(f"ws://{address}/", compression=None, max_size=None, proxy=None) as socket:
        socket.recv()
        yield socket


def _ask(socket: ClientConnection, frame: bytes) -> Asked:
    started = time.perf_counter()
    socket.send(frame)
    reply = socket.recv()
    ended = time.perf_counter()
    if isinstance(reply, str):
        raise RuntimeError(f"the endpoint refused: {reply}")
    return Asked(seconds=ended - started, model_seconds=unpack(reply)["server_timing"]["infer_ms"] / 1000)


def crowd(address: str, frame: bytes, *, robots: int, seconds: float) -> tuple[list[list[Asked]], list[float]]:
    """Many robots at once for a time; returns what each had, and the seconds that each probe took.

    Raises:
        RuntimeError: a robot or a probe failed.
    """
    end = time.perf_counter() + seconds
    asked: list[list[Asked]] = [[] for _ in range(robots)]
    probes: list[float] = []
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            failed.append(error)

    def robot(number: int) -> None:
        asked[number] = ask(address, frame, lambda _: time.perf_counter() > end)

    def probe() -> None:
        while time.perf_counter() < end:
            for path in ("/livez", "/readyz"):
                probes.append(_probe(address, path))
            time.sleep(0.05)

    works: list[Callable[[], None]] = [probe, *(lambda n=n: robot(n) for n in range(robots))]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(f"{len(failed)} of {robots} robots and the probe failed: {failed[0]}") from failed[0]
    return asked, probes


def _probe(address: str, path: str) -> float:
    """A probe on a connection of its own, as Kubernetes makes it."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"{path} answers {response.status}")
    finally:
        connection.close()
    return time.perf_counter() - started


def milliseconds(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """p50, p99 and the largest, in milliseconds."""
    array = np.asarray(values) * 1000
    return {
        "p50": round(float(np.percentile(array, 50)), 3),
        "p99": round(float(np.percentile(array, 99)), 3),
        "max": round(float(array.max()), 3),
        "count": len(values),
    }
