"""`lingbot models`, as it is typed."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json

import pytest

from components.adapters import tracking
from pipelines.cli import main
from tests.registry_house import (  # noqa: F401
    bundles,
    evaluation,
    home,
    promote,
    register,
    register_and_promote,
    registry_template,
)

MODEL = "lingbot-vla-aloha_sim"


def said(capsys, *arguments, code=0):
    assert main(["models", *arguments]) == code
    out = capsys.readouterr()
    return out.out if code != 2 else out.err


def test_nothing_is_registered_yet(home, capsys):
    assert "no model is registered in sqlite:///" in said(capsys, "list")
    assert "no model is registered" in said(capsys, "show", "1", code=2)
    assert "has no entry" in said(capsys, "history")


def test_the_journey_of_a_promotion(home, bundles, tmp_path, capsys):
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=80))
    register(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=85))
    register(tmp_path / "c", bundles[2], evaluation(bundles[2].digest, successes=10))

    listed = said(capsys, "list").splitlines()
    assert len(listed) == 3 and "1 [champion]  SR 80% [71%, 87%] on 100 x lift_right" in listed[0]
    shown = said(capsys, "show", "champion")
    assert bundles[0].digest in shown and "verdict     passed: 100 trials" in shown and "task: lift_right" in shown
    facts = json.loads(said(capsys, "show", "v3", "--json"))
    assert facts["version"] == "3" and facts["verdict"] is None

    refused = said(capsys, "promote", "3", code=2)
    assert "not promoted: SR 10%" in refused and "--override --reason TEXT" in refused
    assert "needs --reason" in said(capsys, "promote", "3", "--override", code=2)
    assert "is for --override" in said(capsys, "promote", "3", "--reason", "x", code=2)
    assert tracking.version_of_alias(MODEL, "champion").version == "1"

    assert "promote lingbot-vla-aloha_sim 'champion': 1 -> 2" in said(capsys, "promote", "2")
    assert "at version 2 already" in said(capsys, "promote", "2")
    moved = said(capsys, "promote", "3", "--override", "--reason", "to see it fail")
    assert "override" in moved and "2 -> 3" in moved and "to see it fail" in moved
    assert "3 -> 2" in said(capsys, "rollback")
    assert "2 -> 1" in said(capsys, "rollback", "--to", "1", "--reason", "start over")
    assert "cannot be rolled back" in said(capsys, "rollback", code=2)

    history = said(capsys, "history")
    moves = [line.split()[3] for line in history.splitlines() if line.strip()[0].isdigit() and ":" in line]
    assert moves == ["promote", "promote", "override", "rollback", "rollback"]
    assert "start over" in history
    assert [entry["target"] for entry in json.loads(said(capsys, "history", "--json"))] == ["1", "2", "3", "2", "1"]
    assert "5 entries" in said(capsys, "verify")


def test_canary_and_shadow_as_they_are_typed(home, bundles, tmp_path, capsys):
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=80))
    register(tmp_path / "b", bundles[1], evaluation(bundles[1].digest, successes=85))
    assert "canary needs VERSION and SHARE" in said(capsys, "canary", "2", code=2)
    assert "leave out the version" in said(capsys, "canary", "2", "--end", code=2)
    assert "has no shadow" in said(capsys, "shadow", "--end", code=2)
    assert "nothing -> 2 (0.1 of new episodes)" in said(capsys, "canary", "2", "0.1")
    assert "shadow lingbot-vla-aloha_sim 'champion': nothing -> 2" in said(capsys, "shadow", "2")
    assert "2 [canary of champion, 0.1, shadow of champion]" in said(capsys, "list")
    assert "canary lingbot-vla-aloha_sim 'champion': 2 -> nothing" in said(capsys, "canary", "--end")
    assert "2 [shadow of champion]" in said(capsys, "list")
    assert [entry["share"] for entry in json.loads(said(capsys, "history", "--json"))] == [None, 0.1, None, None]
    assert "4 entries" in said(capsys, "verify")


def test_the_card_and_the_gate_that_is_asked_again(home, bundles, tmp_path, capsys):
    inputs, _ = register(tmp_path / "a", bundles[0], evaluation(bundles[0].digest, successes=80))
    strict = tmp_path / "strict.yaml"
    strict.write_text("min_trials: 101\n")
    assert not promote(tmp_path / "a", inputs, policy=str(strict))["promoted"]
    assert "at least 101" in said(capsys, "show", "1", "--card")
    assert "at least 101" in said(capsys, "promote", "1", code=2)
    assert "nothing -> 1" in said(capsys, "promote", "1", "--judge-again")


def test_a_registry_that_was_lost_is_found_by_the_ledger(home, bundles, tmp_path, capsys):
    register_and_promote(tmp_path, bundles[0], evaluation(bundles[0].digest, successes=80))
    assert "the ledger (1 entries)" in said(capsys, "verify")
    with tracking.connection() as client:
        client.delete_registered_model(MODEL)
    assert f"{MODEL}: alias 'champion' is not set, and the ledger has it at version 1" in said(capsys, "verify", code=1)


def test_a_model_that_is_nowhere_is_no_agreement(home, bundles, tmp_path, capsys):
    register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    for action in ("verify", "list"):
        assert f"Did you mean '{MODEL}'" in said(capsys, action, "--model", MODEL[:-1], code=2), action
        assert MODEL in said(capsys, action, "--model", MODEL) or action == "verify"


def test_verify_finds_what_does_not_agree(home, bundles, tmp_path, capsys):
    register_and_promote(tmp_path / "a", bundles[0], evaluation(bundles[0].digest))
    ledger = home / "ledger.jsonl"
    content = ledger.read_bytes()
    ledger.write_bytes(content.replace(b'"target":"1"', b'"target":"2"'))
    assert "ledger has it at 2" in said(capsys, "verify", code=1)
    ledger.write_bytes(content[:-10])
    assert "line 1 is not an entry" in said(capsys, "verify", code=1)
    ledger.write_bytes(content)
    (home / "bundles" / bundles[0].digest / "model.safetensors").write_bytes(b"")
    assert "bundle of version 1 is missing or damaged" in said(capsys, "verify", code=1)
    for evidence in (home / "evaluations").iterdir():
        evidence.unlink()
    assert "evidence lost" in said(capsys, "list")


@pytest.mark.parametrize(("version", "words"), [("7", "unknown version"), ("champ", "unknown version")])
def test_unknown_versions(home, bundles, tmp_path, capsys, version, words):
    register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    assert words in said(capsys, "show", version, code=2)
