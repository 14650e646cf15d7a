"""Robots at work while policies are promoted and taken back and servers restarted: no reply is lost, and no episode is
answered by two versions. The project's own client over real sockets."""

import socket

import numpy as np

from components.endpoint.served import Served
from components.endpoint.swapping import Follower
from components.routing_state import Routing, Target
from tests.components.endpoint.fleet import assert_nothing_lost, drill_promotions, drill_restarts


def target(version):
    return Target(version=version, uri=f"file:///bundles/{version}", digest=version * 64)


def test_promotions_and_rollbacks_under_robots(start, slow_bundle, observation):
    says = [Routing(model="lingbot-vla-test", alias="champion", champion=target("1"))]

    def load(model, alias, target):
        bundle = slow_bundle(seconds=0.005)
        bundle.digest = target.digest
        bundle.answer = np.full(bundle.shape, 0.1 * int(target.version), dtype=np.float32)
        return Served(bundle=bundle, model_name=model, model_version=target.version, alias=alias)

    def follow(service):
        options = {"read": lambda *_: says[0], "load": load, "poll_seconds": 0.01}
        return Follower(service, model="lingbot-vla-test", alias="champion", **options).run

    def move(number):
        version = "2" if number % 2 == 0 else "1"
        says[0] = Routing(model="lingbot-vla-test", alias="champion", champion=target(version))
        return version

    server = start(slow_bundle(seconds=0.005), beside=follow)
    count = drill_promotions(f"ws://{server.host}", observation, robots=6, moves=12, move=move)
    assert_nothing_lost(count, 6)
    assert server.service.metrics.value("swaps", result="swapped") >= 12
    assert {"1", "2"} <= set(count.answers)


def test_a_rolling_restart_under_robots(start, slow_bundle, observation):
    first = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    address, listeners = first.getsockname(), [first]

    def begin():
        listener = listeners.pop() if listeners else socket.create_server(address, reuse_port=True)
        bundle = slow_bundle(seconds=0.005)
        return start(bundle, listener=listener, hand_over=True, episode_seconds=30.0, drain_seconds=40.0).stop

    url = "ws://{}:{}".format(*address)
    count = drill_restarts(url, observation, robots=6, restarts=4, start=begin)
    assert_nothing_lost(count, 6)
