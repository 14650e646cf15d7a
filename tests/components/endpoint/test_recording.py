"""Recordings: whole episodes, under the cap, readable after a kill, never in a robot's way."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

from components.endpoint import recording
from components.endpoint.metrics import Metrics
from components.endpoint.recording import MIN_BYTES, Recorder, Recording, sampled, segments
from model.errors import UserError
from tests.components.waiting import LONG, wait_for

CONTRACT = {"contract": {"robot": "r"}, "model_version": "7"}


@dataclass
class Session:
    id: str = "s1"
    robot: str | None = None


def message(number, size=64):
    image = np.random.Generator(np.random.Philox(number)).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return {"observation.images.cam_high": image, "observation.state": np.zeros(2, np.float32), "task": str(number)}


def reply(number=0, episode="first"):
    actions = np.full((4, 2), number, np.float32)
    return {
        "action": actions,
        "actions": actions,
        "seed": number,
        "episode_id": episode,
        "bundle_digest": "d",
        "server_timing": {"infer_ms": 1},
    }


@pytest.fixture
def recorder(tmp_path):
    made = []

    def make(**options):
        metrics = Metrics()
        settings = {"share": 1.0, "max_bytes": 2**26, "metrics": metrics, **options}
        made.append(Recorder(tmp_path / "traffic", lambda: CONTRACT, **settings))
        return made[-1], metrics

    return make


def keeps_up(one):
    wait_for(lambda: one._waiting.qsize() <= 32, "the writer")


def kept(metrics, result="kept"):
    return metrics.value("recorded", result=result)


def test_an_exchange_comes_back_as_it_was(recorder, tmp_path):
    one, metrics = recorder()
    for number in range(3):
        one.keep(message(number), reply(number), Session(robot="arm-3"))
    one.close()
    found = Recording(tmp_path / "traffic")
    assert found.metadata() == CONTRACT and kept(metrics) == 3
    for number, exchange in enumerate(found):
        for key, value in message(number).items():
            assert np.array_equal(exchange.message[key], value)
        assert np.array_equal(exchange.reply["actions"], reply(number)["actions"]) and "action" not in exchange.reply
        assert (exchange.episode, exchange.session, exchange.robot) == ("first", "s1", "arm-3")
        assert abs(exchange.time - time.time()) < 60
    assert number == 2 and len(found) == 3 and found.torn == 0
    assert (tmp_path / "traffic").stat().st_mode & 0o077 == 0, "pictures are for their owner"


def test_episodes_are_kept_whole_or_not_at_all(recorder, tmp_path):
    one, _ = recorder(share=0.3)
    for number in range(200):
        one.keep(message(number, size=16), reply(episode=f"episode-{number // 2}"), Session())
        keeps_up(one)
    one.close()
    names = [exchange.episode for exchange in Recording(tmp_path / "traffic")]
    assert all(names.count(name) == 2 for name in names)
    assert set(names) == {f"episode-{number}" for number in range(100) if sampled(f"episode-{number}", 0.3)}
    assert 15 < len(set(names)) < 45


def test_the_share_is_the_share():
    drawn = sum(sampled(str(number), 0.1) for number in range(20_000))
    assert 0.09 < drawn / 20_000 < 0.11
    assert all(sampled(str(number), 1.0) for number in range(100))


def test_a_reset_is_no_exchange(recorder, tmp_path):
    one, metrics = recorder()
    one.keep({"reset": True}, {"action": None, "actions": None}, Session())
    one.close()
    assert segments(tmp_path / "traffic") == [] and kept(metrics) == 0


def test_the_folder_stays_under_the_cap_and_keeps_the_newest(recorder, tmp_path):
    for first in (0, 300):  # the second process finds what the first left
        one, _ = recorder(max_bytes=MIN_BYTES)
        for number in range(first, first + 300):
            one.keep(message(number), reply(), Session())
            keeps_up(one)
        one.close()
        total = sum(path.stat().st_size for path in (tmp_path / "traffic").iterdir())
        assert MIN_BYTES * 0.7 < total <= MIN_BYTES
    tasks = [int(exchange.message["task"]) for exchange in Recording(tmp_path / "traffic")]
    assert tasks == list(range(tasks[0], 600)) and tasks[0] > 300


def test_a_segment_that_another_process_deletes_meanwhile_does_not_end_the_recording(recorder, tmp_path, monkeypatch):
    one, metrics = recorder()
    found = [tmp_path / "traffic" / "traffic-0.rec"]  # it was listed, and is gone
    monkeypatch.setattr(recording, "segments", lambda folder: list(found))
    one.keep(message(0), reply(), Session())
    one.close()
    assert kept(metrics) == 1


def test_a_robot_is_not_kept_waiting_by_a_slow_disk(recorder, monkeypatch):
    release, written = threading.Event(), []

    def slow(content):
        assert release.wait(LONG)
        written.append(content)
        return b"x"

    monkeypatch.setattr(recording, "_record", slow)
    one, metrics = recorder()
    started = time.monotonic()
    for number in range(recording._WAITING + 100):
        one.keep(message(number, size=16), reply(), Session())
    assert not written and time.monotonic() - started < 30  # a wait of 0.3 s each would take as long
    assert kept(metrics, "left_out") >= 99
    release.set()
    one.close()


def test_a_full_disk_ends_the_recording_and_nothing_else(recorder, monkeypatch, caplog):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording._Segment, "write", full)
    one, metrics = recorder()
    for number in range(3):
        one.keep(message(number), reply(), Session())
    one.close()
    assert kept(metrics) == 0 and kept(metrics, "left_out") == 3
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "No space left" in caplog.text


def test_what_cannot_be_written_is_left_out_and_the_rest_kept(recorder, tmp_path):
    one, metrics = recorder()
    one.keep({"task": "a", "huge": 10**30}, reply(), Session())
    one.keep(message(1), reply(), Session())
    one.close()
    assert (kept(metrics), kept(metrics, "left_out")) == (1, 1)
    assert [exchange.message["task"] for exchange in Recording(tmp_path / "traffic")] == ["1"]


@pytest.fixture
def segment(recorder, tmp_path):
    one, _ = recorder()
    for number in range(3):
        one.keep(message(number), reply(), Session())
    one.close()
    (path,) = segments(tmp_path / "traffic")
    return path


@pytest.mark.parametrize("cut", [1, 5, 9, 2000])
def test_a_killed_process_leaves_what_it_had_written(segment, cut):
    segment.write_bytes(segment.read_bytes()[:-cut])
    found = Recording(segment)
    assert [exchange.message["task"] for exchange in found] == ["0", "1"] and found.torn == 1
    assert len(found) == 2


def test_changed_bytes_are_noticed(segment):
    before = Recording(segment).digest()
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    assert Recording(segment).digest() != before
    with pytest.raises(UserError, match="changed after it was written"):
        list(Recording(segment))


def test_what_is_no_recording_is_said(tmp_path, segment):
    with pytest.raises(UserError, match="holds no recording"):
        Recording(tmp_path)
    (tmp_path / "x.rec").write_bytes(b"something else")
    with pytest.raises(UserError, match="begins with other bytes"):
        list(Recording(tmp_path / "x.rec"))
    content = recording._MAGIC + recording._record({"schema_version": 2, "metadata": {}})
    (tmp_path / "x.rec").write_bytes(content)
    with pytest.raises(UserError, match="schema_version 2, this code reads 1"):
        list(Recording(tmp_path / "x.rec"))


@pytest.mark.parametrize(
    ("options", "words"), [({"share": 0.0}, "share"), ({"share": 1.1}, "share"), ({"max_bytes": 9}, "at least")]
)
def test_a_recorder_that_keeps_nothing_is_refused(recorder, options, words):
    with pytest.raises(UserError, match=words):
        recorder(**options)


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="name another folder"):
        Recorder(tmp_path / "file", dict, share=1.0, max_bytes=MIN_BYTES, metrics=Metrics())
