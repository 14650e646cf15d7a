"""A real bundle (debug preset, seeded weights), and real servers on free ports."""

import asyncio
import contextlib
import socket
import threading
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from websockets.sync.client import connect

from components.endpoint.app import create_app
from components.endpoint.codec import pack, unpack
from components.endpoint.draining import DrainingServer
from components.endpoint.sample import sample_observation
from components.endpoint.served import Served
from components.endpoint.service import Service
from tests.components.waiting import LONG


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    from model.bundle import create_bundle

    return create_bundle(tmp_path_factory.mktemp("bundle") / "debug", preset="debug", robot="aloha_sim", seed=0)


class SlowBundle:
    """The contract and robot of a real bundle; its model takes a known time, and can be told what to answer.

    While `gate` is clear, calls do not end.
    """

    def __init__(self, real, seconds=0.0, answer=None):
        self.contract, self.robot, self.digest = real.contract, real.robot, real.digest
        self.preparation = real.preparation
        self.seconds, self.answer = seconds, answer
        self.shape = (real.contract["horizon"], len(real.contract["action"]))
        self.seen = []
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()

    def self_test(self):
        return 0.0

    def infer(self, observations, *, seeds, running=None):
        self.threads.add(threading.current_thread().name)
        self.seen += observations
        assert self.gate.wait(LONG), "nobody opened the gate"
        time.sleep(self.seconds)
        if self.answer is not None:
            return np.stack([self.answer] * len(observations))
        rng = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
        return np.stack([one.uniform(0.1, 0.9, self.shape).astype(np.float32) for one in rng])


@pytest.fixture
def slow_bundle(bundle):
    made = []

    def make(**options):
        made.append(SlowBundle(bundle, **options))
        return made[-1]

    yield make
    for one in made:  # or the end of a test that failed would wait for its calls
        one.gate.set()


@pytest.fixture
def make_service():
    def make(bundle, **options):
        return Service(Served(bundle=bundle, model_name="lingbot-vla-test", model_version="7"), **options)

    return make


@pytest.fixture
def start(make_service):
    """`start(bundle)` serves it in a thread; returns the address, the service, and `stop()` as SIGTERM does it."""
    with contextlib.ExitStack() as stack:

        def go(
            bundle,
            *,
            keys=None,
            drain_seconds=10.0,
            episode_seconds=0.0,
            hand_over=False,
            listener=None,
            beside=None,
            tls=None,
            **options,
        ):
            service = make_service(bundle, **options)
            listener = listener or socket.create_server(("127.0.0.1", 0))
            ready = threading.Event()
            server = DrainingServer(
                create_app(service, keys=keys),
                drain_seconds=drain_seconds,
                episode_seconds=episode_seconds,
                hand_over=hand_over,
                background=() if beside is None else (beside(service),),
                tls=tls,
                on_ready=ready.set,
            )
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_until_complete, args=(server.serve([listener]),))
            thread.start()

            def stop():
                if thread.is_alive():
                    loop.call_soon_threadsafe(server.drain)
                    thread.join(LONG)
                assert not thread.is_alive()

            stack.callback(loop.close)
            stack.callback(stop)
            assert ready.wait(LONG)
            host = "{}:{}".format(*listener.getsockname())
            drain = lambda: loop.call_soon_threadsafe(server.drain)  # noqa: E731
            return SimpleNamespace(
                host=host, url=f"http://{host}", service=service, server=server, stop=stop, drain=drain
            )

        yield go


@pytest.fixture(scope="session")
def observation(bundle):
    return sample_observation(bundle.contract)


class Robot:
    """A client as openpi-client is one: a frame out, a frame in."""

    def __init__(self, host, path="/", headers=None):
        self._connection = connect(
            f"ws://{host}{path}",
            compression=None,
            max_size=None,
            additional_headers=headers,
            open_timeout=LONG,
            proxy=None,
        )
        self.socket = self._connection.__enter__()
        self.metadata = unpack(self.socket.recv(timeout=LONG))

    def ask(self, message):
        self.send(message)
        return self.receive()

    def send(self, message):
        self.socket.send(message if isinstance(message, (bytes, str)) else pack(message))

    def receive(self):
        reply = self.socket.recv(timeout=LONG)
        return reply if isinstance(reply, str) else unpack(reply)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._connection.__exit__(*error)


@pytest.fixture
def robot():
    return Robot


@pytest.fixture
def http():
    with httpx.Client(timeout=LONG, trust_env=False) as client:
        yield client
