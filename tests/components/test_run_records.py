"""Records of runs that are none: one sentence for each, whatever is in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from components import state
from components.run_records import LIST, NONE, NUMBER, OBJECT, RUN, TEXT, known, read
from model.errors import UserError

ID = "20261123-100000-abcdef"
SHAPE = {"id": TEXT, "seconds": (*NUMBER, *NONE), "provenance.code": OBJECT, "steps": LIST}
RECORD: dict[str, Any] = {
    "schema_version": 2, "id": ID, "seconds": None, "provenance": {"code": {}},
    "steps": [{"name": "pack", "status": "done"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path))


def put(content: bytes) -> Path:
    path = state.run_folder(ID) / RUN
    state.write_atomically(path, content)
    return path


def test_a_record_is_what_was_written() -> None:
    assert known(RUN) == []
    put(json.dumps(RECORD).encode())
    assert known(RUN) == [ID] and known("cluster.json") == []
    assert read(ID, RUN, SHAPE, 2) == RECORD


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"id"', "Expecting ':' delimiter"),
        (b"\xff", "invalid start byte"),
        (b"[]", "it is a list"),
        (b"null", "it is null"),
        ({"schema_version": "2"}, "'schema_version' is a str"),
        ({"id": 3}, "'id' is a int"),
        ({"seconds": "long"}, "'seconds' is a str"),
        ({"provenance": None}, "it has no 'provenance.code'"),
        ({"provenance": {"code": []}}, "'provenance.code' is a list"),
        ({"steps": None}, "'steps' is null"),
        ({"steps": [*RECORD["steps"], "pack"]}, "step 2 has no 'name' or no 'status'"),
        ({"steps": [{"name": "pack"}]}, "step 1 has no 'name' or no 'status'"),
    ],
)
def test_what_is_no_record_is_one_sentence(content: bytes | dict[str, Any], fault: str) -> None:
    path = put(content if isinstance(content, bytes) else json.dumps(RECORD | content).encode())
    with pytest.raises(UserError) as refused:
        read(ID, RUN, SHAPE, 2)
    said = str(refused.value)
    assert said.startswith(f"{path} cannot be read as the record of a run (") and fault in said
    assert said.endswith("): restore it from a copy, or remove its folder") and "\n" not in said


def test_a_record_that_is_gone_by_now_is_one_sentence() -> None:
    with pytest.raises(UserError, match="No such file"):
        read(ID, RUN, SHAPE, 2)


def test_a_newer_record_asks_for_the_newer_version() -> None:
    put(json.dumps(RECORD).encode())
    with pytest.raises(UserError, match="run.json has schema version 2: use the newer version that wrote it"):
        read(ID, RUN, SHAPE)
