"""`lingbot serve`, as a process: ready line, mistakes, the champion, and the check at the end of a run."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from components.endpoint.check import check_served
from components.endpoint.server import READY_PREFIX
from model.errors import UserError
from pipelines.cli import main
from tests.registry_house import (  # noqa: F401
    bundles,
    evaluation,
    home,
    register_and_promote,
    registry_template,
)

CHECKOUT = Path(__file__).parents[2]
LONG = 120.0  # seconds for what takes one; the machine may be busy


def test_serve_says_when_it_is_ready_and_ends_with_code_0(home, bundles):
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--bundle", str(bundles[0].path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith(READY_PREFIX) and bundles[0].digest[:12] in line and "unregistered" in line
            url = line.split()[1]
            assert httpx.get(f"{url}/readyz", trust_env=False, timeout=LONG).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "" and process.wait(LONG) == 0
        finally:
            process.kill()


def test_the_check_of_a_run(home, bundles, tmp_path):
    register_and_promote(tmp_path, bundles[1], evaluation(bundles[1].digest))
    found = check_served(alias="champion")
    assert (found["model_name"], found["model_version"]) == ("lingbot-vla-aloha_sim", "1")
    assert found["bundle_digest"] == bundles[1].digest and found["horizon"] == bundles[1].contract["horizon"]
    assert 0 < found["infer_ms"] <= found["websocket_ms"] and found["http_ms"] > 0 and found["ready_seconds"] > 0


def test_a_champion_with_other_bytes_is_not_served(home, bundles, tmp_path):
    register_and_promote(tmp_path, bundles[1], evaluation(bundles[1].digest))
    (home / "bundles" / bundles[1].digest / "MODEL_CARD.md").write_text("other")
    with pytest.raises(UserError, match="MODEL_CARD.md has other bytes"):
        check_served(alias="champion")


def test_mistakes_are_one_sentence_and_code_2(home, bundles, tmp_path, capsys, monkeypatch):
    def said(*arguments):
        assert main(["serve", *arguments]) == 2
        return capsys.readouterr().err

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} of 127.0.0.1 is in use" in said("--port", port)
    assert "not from 0 to 65535" in said("--port", "70000")
    refused = said("--host", "0.0.0.0", "--port", "0")
    assert "without keys anybody there could drive the robot" in refused and "LINGBOT_API_KEYS_FILE" in refused
    with monkeypatch.context() as patch:
        keys = tmp_path / "keys.json"
        keys.write_text(json.dumps([{"name": "robot", "sha256": "0" * 64}]))
        patch.setenv("LINGBOT_API_KEYS_FILE", str(keys))
        assert "cannot listen on nowhere.invalid" in said("--host", "nowhere.invalid", "--port", "0")
    assert "`lingbot run` registers one, or serve a folder with --bundle PATH" in said("--port", "0")
    assert "is not a bundle" in said("--bundle", str(tmp_path), "--port", "0")
    register_and_promote(tmp_path, bundles[0], evaluation(bundles[0].digest, successes=1))
    assert "no alias 'champion': promote a version first" in said("--port", "0")
