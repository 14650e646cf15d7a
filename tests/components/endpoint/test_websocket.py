"""The openpi protocol over a real socket, and a shutdown that loses no reply."""

import socket
import threading
import time
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from components.endpoint import websocket
from components.endpoint.codec import pack
from lingbot_client import ClientError, PolicyClient
from tests.components.waiting import LONG, wait_for


@pytest.mark.parametrize("path", ["/", "/v1/realtime/robot/openpi"])
def test_metadata_then_actions_that_lead_with_the_horizon(start, bundle, observation, robot, path):
    server = start(bundle)
    with robot(server.host, path) as client:
        assert client.metadata["contract"] == bundle.contract
        assert client.metadata["bundle_digest"] == bundle.digest
        reply = client.ask(observation)
        horizon = bundle.contract["horizon"]
        # openpi's broker slices every array by the step.
        arrays = [value for value in reply.values() if isinstance(value, np.ndarray)]
        assert arrays and all(array.shape == (horizon, 14) and array.dtype == np.float32 for array in arrays)
        np.testing.assert_array_equal(reply["action"], reply["actions"])
        assert reply["server_timing"]["infer_ms"] > 0 and "prev_total_ms" not in reply["server_timing"]
        assert client.ask(observation)["server_timing"]["prev_total_ms"] > 0


def test_replies_have_bin_keys_as_openpi_client_decodes_them(start, slow_bundle, observation, robot):
    server = start(slow_bundle())
    with robot(server.host) as client:
        client.socket.send(pack(observation))
        raw = msgpack.unpackb(client.socket.recv(timeout=LONG), raw=False)
        assert set(raw["actions"]) == {b"__ndarray__", b"data", b"dtype", b"shape"}
        assert raw["actions"][b"shape"] == [10, 14] and raw["actions"][b"dtype"] == "<f4"


def test_openpi_dialect_and_batches(start, bundle, observation, robot):
    server = start(bundle)
    openpi = {
        "observation/image": observation["observation.images.cam_high"],
        "observation/left_wrist_image": observation["observation.images.cam_left_wrist"],
        "observation/right_wrist_image": observation["observation.images.cam_right_wrist"],
        "observation/state": observation["observation.state"],
        "prompt": observation["task"],
        "seed": observation["seed"],
    }
    with robot(server.host) as client:
        lingbot = client.ask(observation)
        np.testing.assert_array_equal(client.ask(openpi)["actions"], lingbot["actions"])
        batch = client.ask({"batch": [observation, {**observation, "seed": 9}]})
        assert batch["action"].shape == (2, 10, 14) and batch["seed"] == [0, 9]
        np.testing.assert_allclose(batch["action"][0], lingbot["actions"], atol=1e-4)


def test_reset_as_lingbot_and_as_vllm_send_it(start, slow_bundle, robot):
    server = start(slow_bundle())
    with robot(server.host) as client:
        reply = client.ask({"reset": True, "robo_name": "aloha_sim"})
        assert reply["action"] is None and reply["model_version"] == "7"
        assert client.ask({"endpoint": "reset"})["status"] == "reset successful"
        assert "robo_name" in client.ask({"reset": True, "robo_name": "gr2"})
        count = server.service.metrics.value
        assert count("requests", version="7", transport="websocket", outcome="reset") == 2
        assert count("requests", version="7", transport="websocket", outcome="refused_422") == 1


def test_a_bad_observation_is_a_text_frame_and_the_connection_stays(start, slow_bundle, observation, robot):
    server = start(slow_bundle())
    with robot(server.host) as client:
        assert "not a msgpack message" in client.ask(b"\xc1")
        assert "binary frames" in client.ask("hello")
        assert "shape (3,)" in client.ask({**observation, "observation.state": np.zeros(3)})
        assert "not finite" in client.ask({**observation, "observation.state": np.full(14, np.nan)})
        assert "not allowed" in client.ask(
            msgpack.packb({b"__ndarray__": True, b"data": b"x" * 8, b"dtype": "O", b"shape": [1]})
        )
        assert client.ask(observation)["actions"].shape == (10, 14)


def test_a_fault_closes_with_1011_and_no_detail(start, slow_bundle, observation, robot, caplog):
    broken = slow_bundle()
    server = start(broken)

    def fail(observations, *, seeds):
        raise RuntimeError("secret detail")

    broken.infer = fail
    with robot(server.host) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.ask(observation)
        assert closed.value.rcvd.code == 1011 and "secret" not in closed.value.rcvd.reason
    number = closed.value.rcvd.reason.removeprefix("internal error ").split(":")[0]
    assert f"fault {number} on a connection" in caplog.text and "secret detail" in caplog.text


def test_too_large_a_message_is_closed_with_1009(start, slow_bundle, observation, robot):
    server = start(slow_bundle())
    with robot(server.host) as client:
        # The header of a masked binary frame of 33 MiB: refused before its bytes are sent.
        client.socket.socket.sendall(b"\x82\xff" + (33 * 2**20).to_bytes(8, "big") + bytes(4))
        with pytest.raises(ConnectionClosed) as closed:
            client.receive()
        assert closed.value.rcvd.code == 1009
    with robot(server.host) as client:
        assert client.ask(observation)["actions"].shape == (10, 14)


def test_a_place_that_a_robot_left_is_the_next_ones(start, slow_bundle, observation, robot, monkeypatch):
    monkeypatch.setattr(websocket, "MAX_CONNECTIONS", 1)
    server = start(slow_bundle())
    with robot(server.host) as client:
        client.ask(observation)
        with pytest.raises(Exception, match="HTTP 503"):
            robot(server.host)
    wait_for(lambda: not server.service.metrics.value("connections"), "the end of the first connection")
    with robot(server.host) as client:
        assert client.ask(observation)["actions"].shape == (10, 14)


def test_a_client_that_vanishes_in_a_call_harms_nobody(start, slow_bundle, observation, robot):
    server = start(slow_bundle(seconds=0.05))
    vanishing = robot(server.host)
    vanishing.send(observation)
    vanishing.socket.socket.shutdown(socket.SHUT_RDWR)
    with robot(server.host) as client:
        assert client.ask(observation)["actions"].shape == (10, 14)
    wait_for(lambda: server.service.batcher.pending == 0, "the call of the one that vanished")


def test_shutdown_sends_what_is_owed_then_closes_with_1012(start, slow_bundle, observation, robot, http):
    model = slow_bundle()
    server = start(model, drain_seconds=LONG)
    robots = [robot(server.host) for _ in range(4)]
    idle = robot(server.host)
    model.gate.clear()
    for client in robots:
        client.send(observation)
    wait_for(lambda: server.service.batcher.pending == 4, "four questions")
    server.drain()
    wait_for(lambda: server.service.draining, "the drain")
    ready = http.get(f"{server.url}/readyz")
    assert ready.status_code == 503 and ready.json()["reason"] == "shutting down"
    refused = http.post(
        f"{server.url}/v1/infer", content=pack(observation), headers={"content-type": "application/msgpack"}
    )
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    with pytest.raises(Exception, match="HTTP 503"):
        robot(server.host)
    model.gate.set()
    replies = [client.receive() for client in robots]
    assert [reply["actions"].shape for reply in replies] == [(10, 14)] * 4
    for client in (*robots, idle):
        with pytest.raises(ConnectionClosed) as closed:
            client.receive()
        assert closed.value.rcvd.code == 1012
    server.stop()


def test_http_replies_in_flight_survive_a_shutdown(start, slow_bundle, observation, http):
    model = slow_bundle()
    server = start(model, drain_seconds=LONG)
    replies = []
    model.gate.clear()
    headers = {"content-type": "application/msgpack"}
    thread = threading.Thread(
        target=lambda: replies.append(http.post(f"{server.url}/v1/infer", content=pack(observation), headers=headers))
    )
    thread.start()
    wait_for(lambda: server.service.batcher.pending, "the question")
    server.drain()
    wait_for(lambda: server.server.should_exit, "uvicorn's part of the end")
    model.gate.set()
    server.stop()
    thread.join()
    assert replies[0].status_code == 200


def test_a_newer_observation_supersedes_the_waiting_one_and_replies_stay_in_order(
    start, slow_bundle, observation, robot
):
    model = slow_bundle()
    server = start(model)
    dropped = lambda: server.service.metrics.value("dropped", version="7", reason="superseded")  # noqa: E731
    with robot(server.host) as client:
        model.gate.clear()
        client.send({**observation, "seed": 0})
        wait_for(lambda: model.seen, "the model's call")
        for seed in (1, 2):
            client.send({**observation, "seed": seed})
        wait_for(dropped, "the newer one to supersede the other")
        model.gate.set()
        replies = [client.receive() for _ in range(3)]
        assert replies[0]["seed"] == 0 and "superseded" in replies[1] and replies[2]["seed"] == 2
    assert len(server.service.served.bundle.seen) == 2


def test_a_client_that_left_while_it_waited_is_not_asked_about(start, slow_bundle, observation, robot):
    model = slow_bundle()
    server = start(model)
    with robot(server.host) as client:
        model.gate.clear()
        client.send(observation)
        wait_for(lambda: server.service.batcher.pending == 1, "the first question")
        leaving = robot(server.host)
        leaving.send(observation)
        wait_for(lambda: server.service.batcher.pending == 2, "the second question")
        leaving.__exit__(None, None, None)
        wait_for(lambda: server.service.batcher.pending == 1, "its leaving")
        model.gate.set()
        client.receive()
        client.ask(observation)
    assert len(server.service.served.bundle.seen) == 2


def test_a_drain_lets_an_episode_end_and_asks_for_a_new_connection(start, slow_bundle, observation, robot):
    server = start(slow_bundle(), episode_seconds=LONG, drain_seconds=LONG)
    with robot(server.host) as client, robot(server.host) as idle:
        assert "draining" not in client.ask({**observation, "episode_id": "a"})
        server.drain()
        with pytest.raises(ConnectionClosed) as closed:
            idle.receive()  # it has no episode
        assert closed.value.rcvd.code == 1012
        for _ in range(3):
            reply = client.ask({**observation, "episode_id": "a"})
            assert reply["draining"] is True and reply["actions"].shape == (10, 14)
        assert client.ask({"reset": True})["draining"] is True
        with pytest.raises(ConnectionClosed) as closed:
            client.receive()
        assert closed.value.rcvd.code == 1012
    server.stop()


def test_an_episode_that_does_not_end_is_closed_after_a_reply(start, slow_bundle, observation, robot, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr("components.endpoint.websocket.time", clock)
    server = start(slow_bundle(), episode_seconds=0.3, drain_seconds=LONG)
    with robot(server.host) as client:
        client.ask(observation)
        server.drain()
        wait_for(lambda: server.service.draining, "the drain")
        for _ in range(3):
            assert client.ask(observation)["draining"] is True
        now[0] = 0.3
        with pytest.raises(ConnectionClosed) as closed:
            wait_for(lambda: client.ask(observation)["actions"].shape != (10, 14), "the end")
        assert closed.value.rcvd.code == 1012
    server.stop()


def test_two_processes_may_share_an_address_and_one_hands_over_to_the_other(start, slow_bundle, observation, robot):
    listener = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    old = start(slow_bundle(), listener=listener, hand_over=True, episode_seconds=LONG, drain_seconds=LONG)
    with robot(old.host) as client:
        client.ask(observation)
        second = socket.create_server(listener.getsockname(), reuse_port=True)
        new = start(slow_bundle(), listener=second, hand_over=True)
        old.drain()
        wait_for(lambda: listener.fileno() == -1, "the first one's listener to close")
        for _ in range(10):
            with robot(new.host) as newcomer:  # never the one that drains
                assert "draining" not in newcomer.ask(observation)
        assert client.ask(observation)["draining"] is True
    assert len(new.service.served.bundle.seen) == 10


def test_another_path_or_tls_is_no_question_of_keys_or_certificates(start, slow_bundle):
    server = start(slow_bundle())
    sentence = "HTTP 404 .*there is no websocket at /v1/infer: connect to /, or to /v1/realtime/robot/openpi"
    with pytest.raises(ClientError, match=sentence):
        PolicyClient(f"ws://{server.host}/v1/infer")
    with pytest.raises(ClientError, match=r"does not speak our TLS \(WRONG_VERSION_NUMBER\): write ws://"):
        PolicyClient(f"wss://{server.host}")
