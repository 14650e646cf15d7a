"""The drills of test_fleet.py at their full size, with server processes, real bundles and a real registry."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import contextlib
import signal
import socket

import pytest

from components.adapters import tracking
from components.endpoint.check import running_server
from components.endpoint.sample import sample_observation
from components.promote.gate import load_policy
from components.promote.moves import promote, rollback
from components.promote.verdicts import judge
from tests.components.endpoint.fleet import assert_nothing_lost, drill_promotions, drill_restarts
from tests.registry_house import bundles, evaluation, home, register, registry_template  # noqa: F401

MODEL = "lingbot-vla-aloha_sim"
ROBOTS = 16


def promote_version(version):
    found = tracking.get_version(MODEL, version)
    promote(found, "champion", judge(found, "champion", load_policy()), override_reason="a drill")


def move(number):
    if number % 2 == 0:
        promote_version("2")
        return "2"
    rollback(MODEL, "champion", to=None, reason="a drill")
    return "1"


@pytest.mark.soak
def test_fifty_promotions_and_rollbacks_under_sixteen_robots(home, bundles, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for number in (0, 1):
        register(tmp_path / str(number), bundles[number], evaluation(bundles[number].digest, successes=80))
    promote_version("1")
    message = sample_observation(bundles[0].contract)
    with running_server(["--alias", "champion", "--poll-seconds", "0.1"]) as (address, _):
        count = drill_promotions(f"ws://{address}", message, robots=ROBOTS, moves=50, move=move)
    with capsys.disabled():
        print(f"\n50 moves: {count}")
    assert_nothing_lost(count, ROBOTS)
    assert set(count.answers) == {"1", "2"}


@pytest.mark.soak
def test_ten_rolling_restarts_under_sixteen_robots(bundles, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as reserved:
        port = reserved.getsockname()[1]
    options = ["--bundle", str(bundles[0].path), "--reuse-port", "--port", str(port)]
    options += ["--episode-seconds", "50", "--drain-seconds", "60"]
    with contextlib.ExitStack() as stack:

        def start():
            _, process = stack.enter_context(running_server(options))

            def stop():
                process.send_signal(signal.SIGTERM)
                assert process.wait(90) == 0

            return stop

        message = sample_observation(bundles[0].contract)
        count = drill_restarts(f"ws://127.0.0.1:{port}", message, robots=ROBOTS, restarts=10, start=start)
    with capsys.disabled():
        print(f"\n10 restarts: {count}")
    assert_nothing_lost(count, ROBOTS)
