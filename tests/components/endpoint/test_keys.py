"""Keys as an operator handles them: made, scoped, rotated and revoked while a server runs."""

import json
import os
import stat
import threading

import pytest
from websockets.exceptions import ConnectionClosed

from components.endpoint.errors import Forbidden, Unauthorized
from components.endpoint.key_file import add_key, list_keys, revoke_key
from components.endpoint.keys import ADMIN, INFER, KeyRing, key_digest
from model.errors import UserError
from tests.components.waiting import wait_for


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secret" / "keys.json"


def test_a_key_is_shown_once_and_only_its_digest_is_kept(path):
    secret = add_key(path, "robot-1")
    assert secret not in path.read_text() and key_digest(secret) in path.read_text()
    assert len(secret) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = KeyRing(path).check(f"Bearer {secret}")
    assert (found.name, found.scopes) == ("robot-1", (INFER,))


def test_the_scope_decides_what_a_key_may(path):
    robot, operator = add_key(path, "robot"), add_key(path, "operator", (ADMIN, INFER))
    ring = KeyRing(path)
    assert ring.check(f"Bearer {operator}", ADMIN).name == "operator"
    with pytest.raises(Forbidden, match="'robot' may infer, not admin") as refusal:
        ring.check(f"Bearer {robot}", ADMIN)
    assert refusal.value.status == 403


def test_who_may_read_the_file_may_read_it_after_a_change(path):
    """A server of another user: else a revoked key would stay valid there."""
    add_key(path, "first")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    add_key(path, "second")
    revoke_key(path, "first")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")
def test_whose_the_file_is_stays_so(path):
    add_key(path, "first")
    os.chown(path, 1234, 1235)
    add_key(path, "second")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_rotation_and_revocation_need_no_restart(path):
    old = add_key(path, "robot-2025")
    ring = KeyRing(path)
    new = add_key(path, "robot-2026")
    assert {ring.check(f"Api-Key {key}").name for key in (old, new)} == {"robot-2025", "robot-2026"}
    revoke_key(path, "robot-2025")
    with pytest.raises(Unauthorized, match="not known"):
        ring.check(f"Bearer {old}")
    revoke_key(path, "robot-2026")
    with pytest.raises(Unauthorized):  # the last key too
        ring.check(f"Bearer {new}")


def test_a_revoked_key_loses_its_open_connection_too_and_no_other_does(path, start, slow_bundle, observation, robot):
    first, second = add_key(path, "first"), add_key(path, "second")
    server = start(slow_bundle(), keys=KeyRing(path))

    def connect(key):
        return robot(server.host, headers={"Authorization": f"Bearer {key}"})

    with connect(first) as revoked, connect(second) as other:
        assert revoked.ask(observation)["actions"].shape == other.ask(observation)["actions"].shape
        revoke_key(path, "first")
        with pytest.raises(ConnectionClosed) as closed:
            revoked.receive()
        assert closed.value.rcvd.code == 1008 and "the key was revoked" in closed.value.rcvd.reason
        assert other.ask(observation)["actions"].shape == (10, 14)
        wait_for(lambda: len(server.service.sessions) == 1, "its session to go with it")
    assert server.service.metrics.value("faults", transport="websocket") == 0


@pytest.mark.parametrize("broken", ["[", '{"name": "robot"}', '[{"name": "robot", "sha256": "short"}]', None])
def test_a_file_that_breaks_while_serving_locks_no_robot_out(path, broken, caplog):
    secret = add_key(path, "robot")
    ring = KeyRing(path)
    path.unlink()
    if broken is not None:
        path.write_text(broken)
    assert ring.check(f"Bearer {secret}").name == "robot"
    assert "stay valid" in caplog.text
    later = add_key(path.with_name("other.json"), "robot")
    path.write_text(path.with_name("other.json").read_text())
    assert ring.check(f"Bearer {later}").name == "robot"
    with pytest.raises(Unauthorized):
        ring.check(f"Bearer {secret}")


def test_an_entry_of_before_scopes_may_infer(path):
    path.parent.mkdir()
    path.write_text(json.dumps([{"name": "old", "sha256": key_digest("k" * 40)}]))
    assert KeyRing(path).check("Bearer " + "k" * 40).scopes == (INFER,)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "a b", "sha256": "0" * 64}, "key name 'a b' must be"),
        ({"name": "a", "sha256": "the key itself"}, "64 hex digits"),
        ({"name": "a", "sha256": "0" * 64, "scopes": ["infre"]}, "Did you mean 'infer'"),
        ({"name": "a", "sha256": "0" * 64, "scopes": []}, "has no scope"),
        ({"name": "a", "sha256": "0" * 64, "scopes": "infer"}, "list of texts"),
        ({"name": ["a"], "sha256": "0" * 64}, "key name"),
    ],
)
def test_a_wrong_entry_is_one_sentence(path, entry, words):
    path.parent.mkdir()
    path.write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=words):
        KeyRing(path)


def test_a_name_is_given_once(path):
    add_key(path, "robot")
    with pytest.raises(UserError, match="a key named 'robot' already"):
        add_key(path, "robot")
    entry = json.loads(path.read_text())[0]
    path.write_text(json.dumps([entry, entry]))
    with pytest.raises(UserError, match="'robot' twice"):
        KeyRing(path)


def test_revoking_an_unknown_key_names_the_nearest(path):
    with pytest.raises(UserError, match="holds no key"):
        revoke_key(path, "robot")
    add_key(path, "robot-1")
    with pytest.raises(UserError, match="Did you mean 'robot-1'"):
        revoke_key(path, "robot1")


def test_keys_added_at_once_are_all_kept(path):
    threads = [threading.Thread(target=add_key, args=(path, f"robot-{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in list_keys(path)} == {f"robot-{number}" for number in range(12)}


def test_the_command_makes_lists_and_revokes(path, capsys, monkeypatch):
    from pipelines.cli import main

    monkeypatch.setenv("LINGBOT_API_KEYS_FILE", str(path))
    assert main(["keys", "add", "robot-1", "--scope", "infer", "--scope", "admin"]) == 0
    secret = capsys.readouterr().out.strip()
    assert KeyRing(path).check(f"Bearer {secret}", ADMIN).name == "robot-1"
    assert main(["keys", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown[0]["name"] == "robot-1" and shown[0]["scopes"] == ["infer", "admin"] and "sha256" not in shown[0]
    assert main(["keys", "revoke", "robot-1"]) == 0
    assert list_keys(path) == ()
    assert main(["keys", "add", "robot", "--scope", "root"]) == 2
