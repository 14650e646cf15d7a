"""The file of a review: whole at every moment, and nobody's work is lost in it."""

import errno
import multiprocessing
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components.annotate.review.edits import EDITABLE, revision
from components.annotate.review.store import Change, Changed, ReviewFile
from model.data.annotations import complete, read_annotations, write_annotations
from model.errors import UserError
from tests.components.annotate.review.reviewing import wait_for

LENGTHS = dict.fromkeys(range(40), 60)
NOW = "2026-11-23T01:02:03+00:00"


def annotated(episodes: int = 40) -> list[dict[str, Any]]:
    return [
        complete(
            {
                "episode": episode, "start": start, "end": start + 30, "atomic_action": "reach", "arm": "left",
                "task": "lift", "sub_task": f"reach {episode}", "source": "template", "confidence": 0.5,
            }
        )
        for episode in range(episodes)
        for start in (0, 30)
    ]  # fmt: skip


def review(path: Path) -> ReviewFile:
    return ReviewFile(path, annotated(), LENGTHS)


def accepting(file: ReviewFile, episode: int, reviewer: str = "kim", base: str = "") -> Change:
    rows = file.rows(episode)
    segments = [{**{name: row[name] for name in EDITABLE}, "review_state": "accepted"} for row in rows]
    return Change(base=base or revision(rows), segments=segments, reviewer=reviewer, now=NOW)


def test_the_first_save_makes_the_file_with_every_episode(tmp_path: Path) -> None:
    path = tmp_path / "deep/reviewed.parquet"
    file = review(path)
    assert not path.exists()
    made = file.save({3: accepting(file, 3)})
    rows = read_annotations(path)
    assert [row for row in rows if row["episode"] == 3] == made[3]
    assert [row for row in rows if row["episode"] != 3] == [row for row in annotated() if row["episode"] != 3]
    assert sorted(each.name for each in path.parent.iterdir()) == [".reviewed.parquet.lock", "reviewed.parquet"]


def test_a_review_goes_on_where_it_stood_with_what_was_annotated_since(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.parquet"
    file = review(path)
    file.save({3: accepting(file, 3)})
    done, old = file.rows(3), file.rows(5)
    better = [{**row, "sub_task": "in better words"} for row in annotated() if row["episode"] != 5]
    again = ReviewFile(path, better, LENGTHS)
    assert again.rows(3) == done, "a person's"
    assert {row["sub_task"] for row in again.rows(4)} == {"in better words"}
    assert again.rows(5) == old, "not annotated this time"
    again.save({4: accepting(again, 4)})
    kept = read_annotations(path)
    assert {row["sub_task"] for row in kept if row["episode"] not in (3, 5)} == {"in better words"}
    assert [row for row in kept if row["episode"] in (3, 5)] == done + old


def test_the_later_of_two_saves_of_one_state_is_refused(tmp_path: Path) -> None:
    kim, lee = review(tmp_path / "reviewed.parquet"), review(tmp_path / "reviewed.parquet")
    late = accepting(lee, 3, "lee")
    kim.save({3: accepting(kim, 3)})
    with pytest.raises(Changed) as refused:
        lee.save({4: accepting(lee, 4, "lee"), 3: late})
    assert refused.value.rows == kim.rows(3)
    assert {row["reviewer"] for row in read_annotations(tmp_path / "reviewed.parquet")} == {"kim", ""}, "all or none"


def test_saving_what_is_there_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.parquet"
    file = review(path)
    file.save({3: accepting(file, 3)})
    before = path.stat().st_ino
    file.save({3: accepting(file, 3, "lee")})
    assert path.stat().st_ino == before
    assert {row["reviewer"] for row in file.rows(3)} == {"kim"}


def accept_all(path: Path, episodes: range, reviewer: str) -> None:
    file = review(path)
    for episode in episodes:
        file.save({episode: accepting(file, episode, reviewer)})


def test_two_reviews_of_one_file_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.parquet"
    with ThreadPoolExecutor(2) as reviewers:  # each with a file of its own: only the lock on the disk is between them
        for done in [reviewers.submit(accept_all, path, range(first, 24, 2), f"reviewer {first}") for first in (0, 1)]:
            done.result(60)
    rows = [row for row in read_annotations(path) if row["episode"] < 24]
    assert [row["reviewer"] for row in rows] == [f"reviewer {row['episode'] % 2}" for row in rows]


def accept_for_ever(path: Path) -> None:
    file = review(path)
    number = 0
    while True:
        row = {**{name: file.rows(0)[0][name] for name in EDITABLE}, "sub_task": f"{number} " * 2000}
        file.save({0: Change(base=revision(file.rows(0)), segments=[row], reviewer="kim", now=NOW)})
        number += 1


def test_who_reads_while_it_is_saved_reads_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.parquet"
    file = review(path)
    file.save({3: accepting(file, 3)})
    before = path.read_bytes()
    with path.open("rb") as reader:
        file.save({4: accepting(file, 4)})
        assert reader.read() == before
    assert path.read_bytes() != before


def test_a_folder_that_is_gone_is_said_and_the_work_can_be_saved_later(tmp_path: Path) -> None:
    file = review(tmp_path / "deep/reviewed.parquet")
    change = {3: accepting(file, 3)}
    shutil.rmtree(tmp_path / "deep")
    with pytest.raises(UserError, match="cannot be written .No such file or directory., what you did is not saved"):
        file.save(change)
    (tmp_path / "deep").mkdir()
    made = file.save(change)[3]
    assert [row for row in read_annotations(file.path) if row["episode"] == 3] == made


def test_a_full_disk_is_said_and_the_work_can_be_saved_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = review(tmp_path / "reviewed.parquet")
    change = {3: accepting(file, 3)}

    def full(file_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="cannot be written .No space left on device., what you did is not saved"):
            file.save(change)
    assert not file.path.exists() and {row["review_state"] for row in file.rows(3)} == {"unreviewed"}
    file.save(change)
    assert {row["review_state"] for row in review(file.path).rows(3)} == {"accepted"}


@pytest.mark.soak
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "reviewed.parquet"
    worker = multiprocessing.get_context("spawn").Process(target=accept_for_ever, args=(path,))
    worker.start()
    try:
        wait_for(path.exists, "the first save")
        inodes = set()
        for _ in range(12):
            before = path.stat().st_mtime_ns
            wait_for(lambda since=before: path.stat().st_mtime_ns != since, "another save")
            inodes.add(path.stat().st_ino)
            assert len(read_annotations(path)) == 79
        time.sleep(0.003)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
    finally:
        worker.kill()
        worker.join(60)
    texts = {row["sub_task"] for row in read_annotations(path) if row["episode"] == 0}
    assert len(texts) == 1 and len(set(texts.pop().split())) == 1
    accept_all(path, range(1, 2), "lee")  # the lock went with the process


def test_a_file_of_another_dataset_is_refused(tmp_path: Path) -> None:
    write_annotations(tmp_path, [{**annotated(1)[0], "end": 70}], "reviewed.parquet")
    with pytest.raises(UserError, match="reviewed.parquet: episode 0 has a segment to frame 70, the dataset has 60"):
        review(tmp_path / "reviewed.parquet")
    with pytest.raises(UserError, match="the annotations: episode 5 .* has 0 frames"):
        ReviewFile(tmp_path / "new.parquet", annotated(6), dict.fromkeys(range(5), 60))


def test_an_episode_without_segments_and_a_place_that_is_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="episode 99 has no segments to review"):
        review(tmp_path / "reviewed.parquet").rows(99)
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot be kept in '.*taken/reviewed.parquet'"):
        review(tmp_path / "taken/reviewed.parquet")
