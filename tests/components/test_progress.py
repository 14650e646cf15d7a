import io

from components.progress import FileProgress, LogProgress, describe, read_progress


def test_updates_are_thinned_and_the_last_one_is_kept(tmp_path):
    progress = FileProgress(tmp_path / "run" / "pack.jsonl")
    progress.event("start", fingerprint="f")
    for done in range(1000):
        progress.update(done + 1, 1000, loss=1.0 / (done + 1))
    progress.event("end", status="done", seconds=1.0)
    events, _ = read_progress(tmp_path / "run" / "pack.jsonl")
    updates = [event for event in events if event["event"] == "progress"]
    assert len(updates) < 20
    assert updates[-1]["done"] == 1000
    assert updates[-1]["figures"] == {"loss": 0.001}
    assert [event["event"] for event in events][0] == "start"
    assert events[-1]["event"] == "end"


def test_reading_goes_on_where_it_stopped_and_leaves_half_lines(tmp_path):
    path = tmp_path / "pack.jsonl"
    assert read_progress(path) == ([], 0)
    progress = FileProgress(path)
    progress.message("first")
    events, offset = read_progress(path)
    assert [event["text"] for event in events] == ["first"]
    with path.open("a") as file:
        file.write('{"event": "mess')
    assert read_progress(path, offset) == ([], offset)
    with path.open("a") as file:
        file.write('age", "text": "second"}\n')
    events, _ = read_progress(path, offset)
    assert [event["text"] for event in events] == ["second"]


def test_without_a_run_the_log_has_plain_lines():
    stream = io.StringIO()
    progress = LogProgress("pretrain", stream)
    progress.update(5, 10, loss=0.51234, samples_per_second=123.4)
    progress.event("end", status="done", seconds=12.34)
    assert stream.getvalue() == ("pretrain: 5/10  loss 0.512  samples per second 123\npretrain: done after 12.3 s\n")


def test_every_event_has_words():
    assert describe({"event": "message", "text": "rendering"}) == "rendering"
    assert describe({"event": "progress", "done": 1, "total": 2, "figures": {}}) == "1/2"
    assert describe({"event": "start"}) == "start"
