"""The ledger: append-only, chained, and what a rollback goes through."""

import hashlib
import json
import threading

import pytest

from components.ledger import CANARY, FIRST, OVERRIDE, PROMOTE, ROLLBACK, Ledger, Overtaken
from components.ledger_log import FileLog
from model.errors import UserError

MODEL = "lingbot-vla-test"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(FileLog(tmp_path / "ledger.jsonl"))


def move(ledger, target, action=PROMOTE, *, source=None, alias="champion", reasons=("it is good",)):
    return ledger.append(
        action=action,
        model=MODEL,
        alias=alias,
        source=source,
        target=target,
        bundle_digest="b" * 64,
        evidence="e" * 64,
        reasons=reasons,
        who="somebody@somewhere",
    )


def test_entries_are_chained_and_read_back(ledger):
    first, second = move(ledger, "1"), move(ledger, "2", OVERRIDE, source="1", reasons=("Grüße", "no trials"))
    assert ledger.entries() == (first, second)
    assert first.previous == FIRST and second.sequence == 2
    assert second.reasons == ("Grüße", "no trials") and second.who == "somebody@somewhere"
    assert ledger.verify() == []
    lines = ledger.log.path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 and all(json.loads(line)["schema_version"] == 2 for line in lines)


def test_who_acts_is_known(ledger, monkeypatch):
    monkeypatch.setenv("LINGBOT_RUN_ID", "20261122-1")
    entry = ledger.append(
        action=PROMOTE,
        model=MODEL,
        alias="a",
        source=None,
        target="1",
        bundle_digest="b",
        evidence=None,
        reasons=(),
    )
    assert "@" in entry.who and entry.who.endswith("run 20261122-1")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda lines: [lines[0].replace(b'"target":"1"', b'"target":"9"'), *lines[1:]], 2),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [*lines, lines[-1]], 4),
        (lambda lines: [*lines[:2], lines[2][:40]], 3),
        (lambda lines: [*lines, b"{}\n"], 4),
        (lambda lines: [*lines, b"\n"], 4),
        (lambda lines: [lines[0].replace(b'"sequence":1', b'"sequence": 1'), *lines[1:]], 1),
    ],
)
def test_a_change_is_seen_and_nothing_is_built_on_it(ledger, damage, line):
    for version in ("1", "2", "3"):
        move(ledger, version)
    lines = ledger.log.path.read_bytes().splitlines(keepends=True)
    ledger.log.path.write_bytes(b"".join(damage(lines)))
    damaged = ledger.log.path.read_bytes()
    (fault,) = ledger.verify()
    assert f"line {line} " in fault
    with pytest.raises(UserError, match=f"line {line} "):
        move(ledger, "4")
    assert ledger.log.path.read_bytes() == damaged


def test_a_newer_schema_is_not_guessed_at(ledger):
    move(ledger, "1")
    ledger.log.path.write_bytes(ledger.log.path.read_bytes().replace(b'"schema_version":2', b'"schema_version":3'))
    assert "newer version" in ledger.verify()[0]


def test_entries_of_schema_1_are_read_and_continued(ledger):
    """As they were written before canaries: without `verdict` and `share`, the chain over those very bytes."""
    old = (
        b'{"action":"promote","alias":"champion","bundle_digest":"b","evidence":"e","model":"lingbot-vla-test",'
        b'"previous":"' + FIRST.encode() + b'","reasons":["good"],"schema_version":1,"sequence":1,"source":null,'
        b'"target":"1","time":"2026-11-22T12:00:00.000+00:00","who":"a@b"}\n'
    )
    ledger.log.path.write_bytes(old)
    move(ledger, "2", source="1")
    first, second = ledger.entries()
    assert (first.schema_version, first.verdict, first.share) == (1, None, None)
    assert second.previous == hashlib.sha256(old).hexdigest()
    ledger.log.path.write_bytes(ledger.log.path.read_bytes().replace(b'"share":null,', b""))
    assert "line 2 is not an entry" in ledger.verify()[0]


def test_a_canary_is_no_movement_of_the_alias(ledger):
    move(ledger, "1")
    ledger.append(
        action=CANARY, model=MODEL, alias="champion", source=None, target="2", bundle_digest="b", evidence=None,
        reasons=(), share=0.25,
    )  # fmt: skip
    assert ledger.standing(MODEL, "champion") == ("1",)
    assert [entry.target for entry in ledger.moves(MODEL, "champion")] == ["1"]
    assert [entry.share for entry in ledger.history(MODEL, "champion")] == [None, 0.25]


def test_what_was_decided_on_older_entries_is_not_written(ledger):
    move(ledger, "1")
    ledger.append(
        action=PROMOTE, model=MODEL, alias="spare", source=None, target="7", bundle_digest="b", evidence=None,
        reasons=(), seen=0,
    )  # fmt: skip
    seen = {"action": PROMOTE, "model": MODEL, "alias": "champion", "source": "1", "target": "2"}
    rest = {"bundle_digest": "b", "evidence": None, "reasons": ()}
    assert ledger.append(**seen, **rest, seen=1).sequence == 3, "another alias's entry does not count"
    with pytest.raises(Overtaken, match="at the same time"):
        ledger.append(**seen, **rest, seen=1)
    assert len(ledger.entries()) == 3


def test_a_log_that_never_takes_a_line_ends_in_a_sentence(ledger, monkeypatch):
    monkeypatch.setattr(ledger.log, "append", lambda number, line: False)
    monkeypatch.setattr("components.ledger.time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match="took no entry in 50 attempts"):
        move(ledger, "1")


def test_writers_at_once_keep_the_chain(ledger):
    threads = [threading.Thread(target=move, args=(ledger, str(i))) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify() == [] and [entry.sequence for entry in ledger.entries()] == list(range(1, 13))


def test_rollbacks_go_back_further_each_time(ledger):
    for version in ("1", "2", "3"):
        move(ledger, version)
    assert ledger.standing(MODEL, "champion") == ("1", "2", "3")
    move(ledger, "2", ROLLBACK)
    assert ledger.standing(MODEL, "champion") == ("1", "2")
    move(ledger, "4")
    assert ledger.standing(MODEL, "champion") == ("1", "2", "4")
    move(ledger, "1", ROLLBACK)
    assert ledger.standing(MODEL, "champion") == ("1",)
    move(ledger, "9", alias="spare")
    assert ledger.standing(MODEL, "champion") == ("1",) and ledger.standing(MODEL, "spare") == ("9",)
    assert len(ledger.history(MODEL, "champion")) == 6 and len(ledger.history()) == 7
