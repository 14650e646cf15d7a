"""Hostile frames against a real server: no crash, no hang, bounded memory, and the next good request works."""

import asyncio
import json
import resource
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from components.endpoint import codec, json_codec, kserve_codec
from components.endpoint.codec import pack, unpack
from components.endpoint.errors import Refused
from tests.components.endpoint.mutations import corpus, mutated
from tests.components.waiting import LONG

ROUND = 250  # frames between two good requests
SLOWEST_SECONDS = 10.0  # of one frame: of the processor's time, a machine that stalls has none


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def bombard(host, observation, frames, first=0):
    """Sends `frames` hostile messages one after the other; returns the replies by kind and the most CPU seconds."""
    messages = corpus(observation)
    kinds = {"refused": 0, "answered": 0}
    slowest = 0.0
    async with connect(f"ws://{host}/", compression=None, max_size=None, open_timeout=LONG, proxy=None) as robot:
        await robot.recv()
        for number in range(frames):
            started = time.process_time()
            await robot.send(mutated(first + number, messages))
            reply = await asyncio.wait_for(robot.recv(), LONG)
            slowest = max(slowest, time.process_time() - started)
            kinds["refused" if isinstance(reply, str) else "answered"] += 1
            if isinstance(reply, str):
                assert "Traceback" not in reply and "\n" not in reply and len(reply) < 2000, (first + number, reply)
            if number % ROUND == ROUND - 1:
                await robot.send(pack(observation))
                good = await asyncio.wait_for(robot.recv(), LONG)
                assert isinstance(good, bytes), (first + number, good)
                assert unpack(good)["actions"].shape == (10, 14)
    return kinds, slowest


def check(start, slow_bundle, observation, frames):
    server = start(slow_bundle())
    asyncio.run(bombard(server.host, observation, 200, first=10**9))  # what is allocated once
    before = resident_bytes()
    kinds, slowest = asyncio.run(bombard(server.host, observation, frames))
    grown = resident_bytes() - before
    assert server.service.metrics.value("faults", transport="websocket") == 0
    assert kinds["refused"] > 0.5 * frames and kinds["answered"] > 0.01 * frames, "the frames reach both sides"
    assert slowest < SLOWEST_SECONDS
    assert grown < 64 * 2**20, f"{grown / 2**20:.0f} MiB more after {frames} frames"
    assert server.service.batcher.pending == 0


def test_5000_hostile_frames(start, slow_bundle, observation):
    check(start, slow_bundle, observation, 5_000)


@pytest.mark.soak
def test_100000_hostile_frames(start, slow_bundle, observation):
    check(start, slow_bundle, observation, 100_000)


def json_values():
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    names = st.sampled_from(["dtype", "shape", "base64", "observation.state", "inputs", "name", "datatype", "data"])
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5), max_leaves=12
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=json_values().map(lambda value: json.dumps(value).encode()) | st.binary(max_size=300))
def test_json_is_read_or_refused(body):
    for read in (json_codec.load, lambda data: kserve_codec.read_call(data, None)):
        try:
            read(body)
        except Refused as refusal:
            assert refusal.status in (400, 413) and str(refusal)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_kserve_bodies_are_read_or_refused(data):
    tensor = st.fixed_dictionaries(
        {
            "name": st.sampled_from(["observation.state", "task", "seed", ""]),
            "shape": st.lists(st.integers(-1, 2**33), max_size=7) | st.none(),
            "datatype": st.sampled_from(["FP32", "BYTES", "UINT8", "BOOL", "FP16", "UINT64", "O"]),
        },
        optional={
            "data": json_values(),
            "parameters": st.dictionaries(
                st.just("binary_data_size"), st.integers(-1, 80) | st.text(max_size=2), max_size=1
            ),
        },
    )
    head = json.dumps({"inputs": data.draw(st.lists(tensor, max_size=3))}).encode()
    rest = data.draw(st.binary(max_size=80))
    length = data.draw(st.sampled_from([str(len(head)), None, "-1", "1e3", str(len(head) + 1), "٣"]))
    try:
        call = kserve_codec.read_call(head + rest, length)
    except Refused as refusal:
        assert refusal.status in (400, 413) and str(refusal)
    else:
        assert all(isinstance(tensor.values, np.ndarray | list) for tensor in call.inputs)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        codec.unpack(data)
    except Refused as refusal:
        assert refusal.status in (400, 413)
