"""Who may do what: scopes, a browser's pages, administration, and what is counted of the turned away."""

import pytest

from components.endpoint.codec import pack, unpack
from components.endpoint.key_file import add_key
from components.endpoint.keys import KeyRing
from tests.components.waiting import LONG

MSGPACK = {"content-type": "application/msgpack"}


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "keys.json"
    return path, add_key(path, "robot"), add_key(path, "operator", ("admin",))


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def test_a_scope_opens_its_own_routes_only(start, slow_bundle, observation, http, secrets, robot):
    path, infer, admin = secrets
    server = start(slow_bundle(), keys=KeyRing(path))

    def status(secret, route="/v1/infer"):
        body = {"content": pack(observation)} if route == "/v1/infer" else {}
        return http.post(f"{server.url}{route}", headers={**MSGPACK, **bearer(secret)}, **body).status_code

    assert (status(infer), status(admin)) == (200, 403)
    assert status(infer, "/v1/admin/drain") == 403
    shown = http.get(f"{server.url}/v1/admin/status", headers=bearer(admin)).json()
    assert shown["champion"]["model_version"] == "7" and shown["ready"] is True
    assert status(admin, "/v1/admin/reload") == 404  # a folder is served: there is no registry
    with pytest.raises(Exception, match="HTTP 403"):
        robot(server.host, headers=bearer(admin))
    metrics = server.service.metrics
    assert metrics.value("unauthorized", reason="scope") == 3
    assert http.get(f"{server.url}/v1/metadata").status_code == 401
    assert metrics.value("unauthorized", reason="key") == 1
    assert status(admin, "/v1/admin/drain") == 202
    server.stop()


def test_who_has_a_key_is_one_client_whatever_its_address(start, slow_bundle, observation, http, secrets):
    path, infer, _ = secrets
    server = start(slow_bundle(), keys=KeyRing(path))
    headers = {**MSGPACK, **bearer(infer)}
    content = pack(observation | {"session_id": "arm"})
    assert http.post(f"{server.url}/v1/infer", content=content, headers=headers).status_code == 200
    assert [session.client for session in server.service.sessions] == ["robot"]


def test_without_keys_a_page_in_a_browser_is_kept_out(start, slow_bundle, observation, http, robot):
    server = start(slow_bundle())
    origin = {"origin": "https://example.org"}
    reply = http.post(f"{server.url}/v1/infer", content=pack(observation), headers={**MSGPACK, **origin})
    assert reply.status_code == 403 and "browser" in reply.json()["error"]
    with pytest.raises(Exception, match="HTTP 403"):
        robot(server.host, headers=origin)
    assert http.post(f"{server.url}/v1/admin/drain").status_code == 403  # nor is there an administrator
    assert http.post(f"{server.url}/v1/infer", content=pack(observation), headers=MSGPACK).status_code == 200


def test_a_request_s_id_comes_back_with_who_answered(start, slow_bundle, observation, http):
    server = start(slow_bundle())
    headers = {**MSGPACK, "x-request-id": "req-1"}
    reply = http.post(f"{server.url}/v1/infer", content=pack(observation), headers=headers)
    assert reply.headers["x-request-id"] == unpack(reply.content)["request_id"] == "req-1"
    assert reply.headers["x-model-name"] == "lingbot-vla-test" and "x-model-alias" not in reply.headers


def test_a_body_that_does_not_come_is_given_up(start, slow_bundle, monkeypatch):
    import socket

    from components.endpoint import requests

    monkeypatch.setattr(requests, "BODY_SECONDS", 0.2)
    server = start(slow_bundle())
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=LONG) as client:
        client.sendall(
            b"POST /v1/infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        assert client.recv(64).startswith(b"HTTP/1.1 408")
