"""`lingbot evaluate gate`: its answer, its verdict on file, and the check of that verdict later."""

import json

import pytest

from pipelines.cli import main
from tests.components.gate_evidence import OTHER_BUNDLE, evaluation, lines, trials


def evaluated(folder, records):
    """The folder of an evaluate step."""
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(evaluation(records)))
    (folder / "trials.jsonl").write_bytes(lines(records))
    return str(folder)


@pytest.fixture
def candidate(tmp_path):
    return evaluated(tmp_path / "candidate", trials(80))


def gate(*arguments):
    return main(["evaluate", "gate", *map(str, arguments)])


def test_a_folder_and_its_file_are_the_same_candidate(candidate, capsys):
    assert gate(candidate) == 0
    first = capsys.readouterr().out
    assert gate(f"{candidate}/evaluation.json") == 0 and capsys.readouterr().out == first


def test_the_champions_trials_are_found_beside_its_evaluation(candidate, tmp_path, capsys):
    champion = evaluated(tmp_path / "champion", trials(99, bundle=OTHER_BUNDLE))
    assert gate(candidate, "--champion", f"{champion}/evaluation.json") == 3
    assert "-19 points against the champion on the same 100 seeds" in capsys.readouterr().out


def test_a_policy_of_ones_own_decides(candidate, tmp_path, capsys):
    policy = tmp_path / "gate.yaml"
    policy.write_text("min_success_rate: 0.9\n")
    assert gate(candidate, "--policy", policy) == 3
    assert "at least 90% is asked for" in capsys.readouterr().out


def test_an_option_out_of_range_is_an_error_of_the_user(candidate, capsys):
    assert gate(candidate, "--min-success-rate", "60") == 2
    assert "min_success_rate 60.0 must be from 0 to 1" in capsys.readouterr().err


def test_a_verdict_is_written_and_verified(candidate, tmp_path, capsys):
    verdict = tmp_path / "verdict.json"
    assert gate(candidate, "--output", verdict) == 0
    assert gate(candidate, "--verify", verdict) == 0
    assert "is the gate's verdict on these inputs: passed" in capsys.readouterr().out


def test_a_refusal_is_verified_as_a_refusal(candidate, tmp_path):
    verdict = tmp_path / "verdict.json"
    assert gate(candidate, "--min-trials", "101", "--output", verdict) == 3
    assert gate(candidate, "--verify", verdict) == 3


def test_an_evaluation_that_was_edited_after_the_verdict_is_refused(candidate, tmp_path, capsys):
    verdict = tmp_path / "verdict.json"
    gate(candidate, "--output", verdict)
    path = tmp_path / "candidate" / "evaluation.json"
    path.write_text(path.read_text() + " ")
    assert gate(candidate, "--verify", verdict) == 2
    assert "was edited or replaced; judge again" in capsys.readouterr().err


def test_a_policy_beside_a_verdict_that_has_one_is_refused(candidate, tmp_path, capsys):
    assert gate(candidate, "--verify", tmp_path / "verdict.json", "--min-trials", "1") == 2
    assert "takes the policy from the verdict: leave out --min-trials" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"), [(None, "is not a file: give a verdict"), ("{", "is not JSON"), ("[]", "is a list")]
)
def test_what_is_no_verdict_is_named(candidate, tmp_path, capsys, text, message):
    verdict = tmp_path / "verdict.json"
    if text is not None:
        verdict.write_text(text)
    assert gate(candidate, "--verify", verdict) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_evaluation_is_named(tmp_path, capsys):
    assert gate(tmp_path) == 2
    assert "evaluation.json is not a file: give the evaluation.json of an evaluate step" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "message"), [("{}", "names no bundle that it is of"), ("[]", "is a list")])
def test_what_is_no_evaluation_is_not_judged(text, message, tmp_path, capsys):
    """A file of another kind was refused as evidence: a wrong path read as a policy that is not good enough."""
    path = tmp_path / "verdict.json"
    path.write_text(text)
    assert gate(path) == 2
    assert message in (said := capsys.readouterr().err) and "give the evaluation.json of an evaluate step" in said
