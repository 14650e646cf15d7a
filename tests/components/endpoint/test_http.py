"""POST /v1/infer, the probes, keys and limits, against a real server."""

import base64
import json
import threading

import numpy as np
import pytest

from components.endpoint.codec import pack, unpack
from components.endpoint.keys import KeyRing, key_digest
from model.errors import UserError
from tests.components.waiting import wait_for

MSGPACK = {"content-type": "application/msgpack"}


def as_json(observation, *, lists=False):
    def plain(value):
        if not isinstance(value, np.ndarray):
            return value
        if lists:
            return value.tolist()
        data = base64.b64encode(value.tobytes()).decode()
        return {"dtype": value.dtype.name, "shape": list(value.shape), "base64": data}

    return {key: plain(value) for key, value in observation.items()}


def test_json_lists_base64_and_msgpack_give_the_same_actions(start, bundle, observation, http):
    server = start(bundle)
    replies = [http.post(f"{server.url}/v1/infer", json=as_json(observation, lists=lists)) for lists in (True, False)]
    assert [reply.status_code for reply in replies] == [200, 200]
    chunks = [np.array(reply.json()["actions"], dtype=np.float32) for reply in replies]
    packed = http.post(f"{server.url}/v1/infer", content=pack(observation), headers=MSGPACK)
    assert packed.headers["content-type"] == "application/msgpack"
    reply = unpack(packed.content)
    for chunk in chunks:
        np.testing.assert_array_equal(chunk, reply["actions"])
    np.testing.assert_array_equal(reply["action"], reply["actions"])
    expected = bundle.infer([_as_observation(observation)], seeds=[observation["seed"]])[0]
    np.testing.assert_array_equal(reply["actions"], np.clip(expected, *bundle.robot.limits.astype(np.float32).T))
    assert packed.headers["x-model-version"] == reply["model_version"] == "7"
    assert packed.headers["x-bundle-digest"] == reply["bundle_digest"] == bundle.digest


def _as_observation(message):
    from model.inference import Observation

    prefix = "observation.images."
    images = {key.removeprefix(prefix): value for key, value in message.items() if key.startswith(prefix)}
    return Observation(images=images, state=message["observation.state"], task=message["task"])


def test_without_a_seed_the_reply_tells_the_one_that_repeats_it(start, bundle, observation, http):
    server = start(bundle)
    free = {key: value for key, value in observation.items() if key != "seed"}
    first, second = (
        unpack(http.post(f"{server.url}/v1/infer", content=pack(free), headers=MSGPACK).content) for _ in range(2)
    )
    assert first["seed"] != second["seed"]
    again = pack(free | {"seed": first["seed"]})
    repeated = unpack(http.post(f"{server.url}/v1/infer", content=again, headers=MSGPACK).content)
    np.testing.assert_array_equal(repeated["actions"], first["actions"])


def test_errors_are_one_sentence_with_the_right_status(start, slow_bundle, observation, http):
    server = start(slow_bundle())
    url = f"{server.url}/v1/infer"
    nan_state = {**as_json(observation), "observation.state": [float("nan")] * 14}
    cases = [
        (http.post(url, content=b"{", headers={"content-type": "application/json"}), 400, "not JSON"),
        (
            http.post(url, content=b"[" * 100_000, headers={"content-type": "application/json"}),
            400,
            "nested too deeply",
        ),
        (http.post(url, content=b"\xc1", headers=MSGPACK), 400, "not a msgpack message"),
        (http.post(url, json=[]), 400, "one map"),
        (http.post(url, json={}), 422, "no observation"),
        (http.post(url, json={"observation.images.cam_hig": []}), 422, "Did you mean 'observation.images.cam_high'"),
        (
            http.post(url, content=json.dumps(nan_state), headers={"content-type": "application/json"}),
            422,
            "not finite",
        ),
        (http.post(url, json={"a": {"base64": "@", "dtype": "uint8", "shape": [1]}}), 400, "base64"),
        (http.post(url, json={"a": {"base64": "AA==", "dtype": "O", "shape": [1]}}), 400, "not allowed"),
        (http.post(url, content=b"x", headers={"content-type": "text/plain"}), 415, "application/msgpack"),
        (http.post(url, content=bytes(9 * 2**20), headers={"content-type": "application/json"}), 413, "over the limit"),
        (http.get(url), 405, "Method Not Allowed"),
        (http.get(f"{server.url}/nowhere"), 404, "Not Found"),
    ]
    for reply, status, words in cases:
        assert reply.status_code == status, reply.text
        assert words in reply.json()["error"] and "Traceback" not in reply.text
    good = http.post(url, content=pack(observation), headers=MSGPACK)
    assert good.status_code == 200
    refused = {"version": "7", "transport": "http", "outcome": "refused_422"}
    assert server.service.metrics.value("requests", **refused) == 3
    assert server.service.metrics.value("requests", **refused | {"outcome": "refused_415"}) == 1


def test_an_unsafe_answer_and_a_fault_tell_nothing_of_the_inside(start, slow_bundle, observation, http, caplog):
    broken = slow_bundle(answer=np.full((10, 14), np.nan, dtype=np.float32))
    server = start(broken)
    reply = http.post(f"{server.url}/v1/infer", content=pack(observation), headers=MSGPACK)
    assert reply.status_code == 500 and "not finite: nothing was sent" in reply.json()["error"]

    def fail(observations, *, seeds):
        raise RuntimeError("secret detail")

    broken.infer = fail
    reply = http.post(f"{server.url}/v1/infer", content=pack(observation), headers=MSGPACK)
    assert reply.status_code == 500
    assert "secret" not in reply.text and "internal error" in reply.json()["error"]
    number = reply.json()["error"].split()[2].rstrip(":")
    assert f"fault {number}" in caplog.text and "secret detail" in caplog.text


def test_clipped_values_are_told_and_counted(start, slow_bundle, observation, http):
    server = start(slow_bundle(answer=np.full((10, 14), 50.0, dtype=np.float32)))
    reply = unpack(http.post(f"{server.url}/v1/infer", content=pack(observation), headers=MSGPACK).content)
    clamped = {"version": "7", "limit": "position", "action": "clamped"}
    assert reply["clipped_values"] == 140 == server.service.metrics.value("guarded_values", **clamped)
    np.testing.assert_allclose(reply["actions"][0], server.service.contract.upper)


def test_an_answer_that_would_come_after_its_deadline_is_refused_before_the_model(
    start, slow_bundle, observation, http
):
    model = slow_bundle()
    server = start(model)
    model.gate.clear()
    first = threading.Thread(
        target=http.post, args=(f"{server.url}/v1/infer",), kwargs={"content": pack(observation), "headers": MSGPACK}
    )
    first.start()
    wait_for(lambda: model.seen, "the first call")
    late = http.post(f"{server.url}/v1/infer", content=pack(observation | {"deadline_ms": 20}), headers=MSGPACK)
    model.gate.set()
    first.join()
    assert late.status_code == 503 and "the deadline passed" in late.json()["error"] and len(model.seen) == 1


def test_a_full_queue_is_503_with_retry_after_and_probes_stay_quick(start, slow_bundle, observation, http):
    model = slow_bundle()
    server = start(model, queue_limit=2)
    model.gate.clear()
    codes = []

    def ask():
        codes.append(http.post(f"{server.url}/v1/infer", content=pack(observation), headers=MSGPACK))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(codes) == 2, "two refusals")
    assert http.get(f"{server.url}/livez").status_code == 200  # while the model's call goes on
    ready = http.get(f"{server.url}/readyz")
    assert not model.gate.is_set() and server.service.runner.running_seconds() > 0
    model.gate.set()
    assert ready.status_code == 503 and ready.json()["reason"] == "the queue is full"
    for thread in threads:
        thread.join()
    refused = [reply for reply in codes if reply.status_code == 503]
    assert len(refused) == 2 and all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
    assert http.get(f"{server.url}/readyz").status_code == 200
    assert all(name.startswith("model") for name in server.service.served.bundle.threads)


def test_a_stuck_model_fails_the_liveness_probe(start, slow_bundle, observation, http):
    model = slow_bundle()
    server = start(model, stuck_seconds=0.2)
    model.gate.clear()
    thread = threading.Thread(
        target=http.post, args=(f"{server.url}/v1/infer",), kwargs={"content": pack(observation), "headers": MSGPACK}
    )
    thread.start()
    wait_for(lambda: server.service.runner.running_seconds() > 0.2, "a call that takes too long")
    reply = http.get(f"{server.url}/livez")
    model.gate.set()
    thread.join()
    assert reply.status_code == 503 and "has been running" in reply.json()["reason"]


def test_an_idle_connection_is_not_closed_under_the_next_question(start, slow_bundle, http):
    """uvicorn's own 5 s are httpx's, too: a question after them found the connection, or a reset."""
    server = start(slow_bundle())
    before = server.server._running_loop.time()
    assert http.get(f"{server.url}/healthz").text == "OK\n"
    (connection,) = server.server.server_state.connections
    wait_for(lambda: connection.timeout_keep_alive_task is not None, "the connection to be idle")
    assert connection.timeout_keep_alive_task.when() - before > 60.0  # what balancers of AWS and nginx keep it


def test_probes_metadata_and_description(start, slow_bundle, http):
    server = start(slow_bundle())
    assert http.get(f"{server.url}/healthz").text == "OK\n"
    assert http.get(f"{server.url}/readyz").json() == {"ready": True, "reason": None}
    metadata = http.get(f"{server.url}/v1/metadata").json()
    assert metadata["contract"]["cameras"][0]["name"] == "cam_high"
    assert metadata["policy_server_config"]["n_external_cameras"] == 1
    assert "/v1/infer" in http.get(f"{server.url}/openapi.json").json()["paths"]


def write_keys(path, *keys):
    path.write_text(json.dumps([{"name": key, "sha256": key_digest(key)} for key in keys]))


def test_keys_are_required_and_rotated_without_a_restart(start, slow_bundle, observation, http, robot, tmp_path):
    path = tmp_path / "keys.json"
    write_keys(path, "first-key")
    server = start(slow_bundle(), keys=KeyRing(path))

    def status(authorization):
        headers = {**MSGPACK, **({"authorization": authorization} if authorization else {})}
        return http.post(f"{server.url}/v1/infer", content=pack(observation), headers=headers).status_code

    assert [status(a) for a in (None, "Bearer wrong", "first-key", "Basic first-key")] == [401] * 4
    assert status("Bearer first-key") == status("Api-Key first-key") == status("api-key  first-key") == 200
    assert http.get(f"{server.url}/livez").status_code == 200
    assert http.get(f"{server.url}/v1/metadata").status_code == 401
    with pytest.raises(Exception, match="HTTP 401"):
        robot(server.host)
    with robot(server.host, headers={"Authorization": "Api-Key first-key"}) as client:
        assert client.metadata["model_version"] == "7"
    write_keys(path, "second-key", "third-key")
    assert status("Bearer first-key") == 401 and status("Bearer third-key") == 200


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"name": "a"}]', '[{"name": "a", "sha256": "plain-key"}]'])
def test_a_bad_keys_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(UserError, match="LINGBOT_API_KEYS_FILE"):
        KeyRing(path)
    with pytest.raises(UserError, match="cannot be read"):
        KeyRing(tmp_path / "absent.json")
