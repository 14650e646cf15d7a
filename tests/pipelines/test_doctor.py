"""The doctor sees what is there and what is not, and names the fix."""

import json
import re
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from components import state
from pipelines import doctor
from pipelines.commands import doctor as command
from pipelines.doctor import Finding, report_lines


def one(findings: Iterable[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def test_rendering_is_tried_not_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(doctor._rendering(), "rendering (EGL)").found == "works"
    monkeypatch.setattr(doctor, "_RENDER", "raise ImportError('libEGL.so.1 is not there')")
    broken = one(doctor._rendering(), "rendering (EGL)")
    assert "libEGL.so.1 is not there" in broken.found and "libegl1" in broken.fix and broken.needed


def test_disk_is_asked_of_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "not" / "made"))
    monkeypatch.setattr(doctor, "DISK_BYTES", 1)
    assert one(doctor._disk(), "disk").fix == "" and not (tmp_path / "not").exists()
    monkeypatch.setattr(doctor, "DISK_BYTES", 1 << 60)
    assert "set LINGBOT_HOME" in one(doctor._disk(), "disk").fix


def test_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # Held, so that no other process gets it meanwhile, and free to who asks as a server does: nobody listens there.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "the endpoint", free: "metrics"})
        findings = list(doctor._ports())
    assert "in use" in one(findings, f"port {port}").found and one(findings, f"port {free}").found == "free"


def test_missing_package_blocks_its_journey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor._PACKAGES, doctor.REPRODUCE, ("no_such_package",))
    lines = list(report_lines(list(doctor._packages())))
    assert "reproduce: not ready" in lines and "run: ready" in lines
    assert "  MISS Python packages: missing: no_such_package" in lines


def test_not_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "checkout", lambda: tmp_path)
    assert one(doctor._git(), "git checkout").fix.startswith("clone the project")


def test_wrong_storage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_STORAGE", "gs://bucket")
    assert "scheme 'gs'" in one(doctor._storage(), "LINGBOT_STORAGE").found


def test_a_storage_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "file/below"))
    wrong = one(doctor._storage(), "LINGBOT_STORAGE")
    assert wrong.fix and f"{tmp_path}/file is no folder" in wrong.found
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "made/later"))
    assert one(doctor._storage(), "LINGBOT_STORAGE").fix == "" and not (tmp_path / "made").exists()


def test_a_package_of_a_version_that_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(doctor._versions(), "versions of packages").fix == ""
    numbers = (
        'a = ["numpy>=1.0", "pyyaml<1", "mujoco==1; python_version < \'3\'", "no-such-package>=1"]\ndev = ["rich<1"]'
    )
    (tmp_path / "pyproject.toml").write_text(f"[project.optional-dependencies]\n{numbers}\n")
    monkeypatch.setattr(state, "checkout", lambda: tmp_path)
    wrong = one(doctor._versions(), "versions of packages")
    assert re.fullmatch(r"pyyaml [0-9.]+ \(it must be <1\)", wrong.found) and "make run" in wrong.fix and wrong.needed


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    monkeypatch.setattr(doctor, "_CHECKS", (doctor._python, doctor._memory))
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args(["--json"])) == 0
    assert [item["subject"] for item in json.loads(capsys.readouterr().out)] == ["Python", "memory"]
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    assert command.run(parser.parse_args([])) == 2
    assert "MISS Python: 3.10.1" in capsys.readouterr().out
