import json
import os
import threading
import time

import pytest

from components import state
from model.errors import UserError


def test_home_is_the_variable_or_beside_the_code(monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "here"))
    assert state.home() == tmp_path / "here"
    assert state.step_folder("pack", "abc") == tmp_path / "here/steps/pack/abc"
    monkeypatch.delenv("LINGBOT_HOME")
    assert state.home() == state.checkout() / ".lingbot"
    assert (state.checkout() / "components" / "state.py").exists()


def test_a_home_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UserError, match=f"{tmp_path}/file/home cannot be written.*set LINGBOT_HOME"):
        state.make_home()


def test_a_failed_write_leaves_the_old_file_and_no_other(monkeypatch, tmp_path):
    path = tmp_path / "run.json"
    state.write_json(path, {"status": "running"})

    def fail(handle):
        raise OSError("pulled the plug")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="plug"):
        state.write_json(path, {"status": "done"})
    assert json.loads(path.read_text()) == {"status": "running"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_two_threads_may_write_the_same_file(monkeypatch, tmp_path):
    path, real = tmp_path / "answer.json", os.fsync

    def meanwhile(handle):
        monkeypatch.setattr(os, "fsync", real)
        other = threading.Thread(target=state.write_json, args=(path, {"by": "another"}))
        other.start()
        other.join()
        real(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    state.write_json(path, {"by": "this one"})
    assert json.loads(path.read_text()) == {"by": "this one"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["answer.json"]


def test_canonical_json_depends_on_content_alone():
    assert state.canonical_json({"b": [1, 2.5], "a": "ä"}) == '{"a":"ä","b":[1,2.5]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        state.canonical_json({"loss": float("nan")})


def test_run_ids_sort_by_time_within_a_second_too(monkeypatch):
    second = 1_795_420_995 * 10**9
    times = [second + part * 10**6 for part in (0, 1, 62, 63, 500, 999, 1000)]
    clock = iter(times)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    ids = [state.new_run_id() for _ in times]
    assert ids == sorted(ids)
    assert [len(run_id) for run_id in ids] == [22] * len(ids)


def test_run_ids_sort_through_the_end_of_summer_time(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        # 2026-10-25, 02:30 in Berlin, and an hour later 02:30 again
        clock = iter([1_792_888_200 * 10**9, 1_792_891_800 * 10**9 - 1])
        monkeypatch.setattr(time, "time_ns", lambda: next(clock))
        first, second = state.new_run_id(), state.new_run_id()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert first < second
    assert first.startswith("20261025-003000-")


def test_run_ids_of_one_moment_are_different(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_420_995 * 10**9)
    assert len({state.new_run_id() for _ in range(20)}) > 1
