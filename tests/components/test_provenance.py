"""A record says what a run was made from, and holds no secret."""

import json
import sys

import pytest

from components.provenance import find_seeds, provenance


def test_record_is_complete_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lingbot", "run", "--set", "seed=3"])
    parameters = {"seed": 3, "collect": {"seed": 3, "episodes": 4}, "evaluate": {"first_seed": 7, "tasks": ["a"]}}
    record = provenance(parameters, data={"tag": "data/demo-v1", "commit": "c" * 40})
    assert json.loads(json.dumps(record)) == record
    assert record["seeds"] == {"collect.seed": 3, "evaluate.first_seed": 7, "seed": 3}
    assert record["parameters"] == parameters and record["data"]["tag"] == "data/demo-v1"
    assert record["packages"]["numpy"] and record["hardware"]["cores"] >= 1 and record["hardware"]["memory"] > 1 << 28
    assert record["command"] == ["lingbot", "run", "--set", "seed=3"]
    assert (record["code"]["commit"] is None) or len(record["code"]["commit"]) == 40


def test_seeds_are_numbers_only() -> None:
    assert dict(find_seeds({"seed": None, "a": {"b": {"seed": 1}}, "seeds": [1]})) == {"a.b.seed": 1}


def test_secrets_of_the_command_line_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["lingbot", "--api-key", "abc", "--token=def", "--dataset", "https://me:ghi@host/x", "--set", "seed=1"]
    monkeypatch.setattr(sys, "argv", line)
    command = provenance({})["command"]
    assert not {"abc", "def", "ghi"} & set(
        " ".join(command).replace("=", " ").replace(":", " ").replace("@", " ").split()
    )
    assert command[-4:] == ["--dataset", "https://***@host/x", "--set", "seed=1"]
