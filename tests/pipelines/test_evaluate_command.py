"""`lingbot evaluate`, as a person calls it."""

import json
from types import SimpleNamespace

import pytest

from model.bundle import create_bundle
from model.evaluation.records import Checkpoint, TrialRecord, read_trials, write_trials
from pipelines.cli import main


def record(condition: str, seed: int, success: bool) -> TrialRecord:
    return TrialRecord(
        condition=condition, policy=condition, bundle_digest="d", task="lift_right", instruction="lift",
        robot="aloha_sim", seed=seed, outcome="success" if success else "failure",
        reason=None if success else "time limit",
        checkpoints=(Checkpoint(name="held", seconds=2.0 if success else None),), seconds=6.0, looks=6,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    create_bundle(folder / "bundle", preset="debug")
    return folder / "bundle"


@pytest.fixture
def trials(tmp_path):
    path = tmp_path / "trials.jsonl"
    records = [record("policy", seed, seed < 40) for seed in range(50)]
    write_trials(path, records + [record("mean_replay", seed, seed < 5) for seed in range(50)])
    return path


def test_score_prints_rates_intervals_and_the_paired_difference(trials, capsys):
    assert main(["evaluate", "score", str(trials)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["condition", "task", "trials", "SR", "95%", "PS", "95%"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:3]}
    assert rows["policy"][:6] == ["lift_right", "50", "80%", "67", "to", "89"]
    assert rows["mean_replay"][:6] == ["lift_right", "50", "10%", "4", "to", "21"]
    assert lines[3].startswith("vs mean replay: +70 points (+5")


def test_score_names_a_file_that_is_none(tmp_path, capsys):
    assert main(["evaluate", "score", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl is not a file" in capsys.readouterr().err


@pytest.mark.parametrize(("successes", "code", "said"), [(40, 0, "passed: "), (10, 3, "not promoted: SR 20%")])
def test_gate_answers_with_its_exit_code(tmp_path, capsys, successes, code, said):
    from model.evaluation.summary import closed_loop_figures

    records = [record("policy", seed, seed < successes) for seed in range(50)]
    records += [record("mean_replay", seed, False) for seed in range(50)]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"task": "lift_right", "bundle_digest": "b" * 64, **closed_loop_figures(records)}))
    assert main(["evaluate", "gate", str(path)]) == code
    assert capsys.readouterr().out.startswith(said)
    assert main(["evaluate", "gate", str(path), "--min-trials", "51"]) == 3


def test_closed_runs_real_trials_and_keeps_them(bundle, tmp_path, capsys):
    command = ["evaluate", "closed", str(bundle), "--trials", "2", "--max-seconds", "0.4"]
    command += ["--workers", "1", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-3].split()[:3] == ["policy", "2", "0%"]
    assert [r.reason for r in read_trials(tmp_path / "out" / "trials.jsonl")] == [
        "not done within the time limit of 0.4 s"
    ] * 2


def test_closed_tries_a_suite_and_says_what_is_held_out(bundle, capsys):
    command = ["evaluate", "closed", str(bundle), "--suite", "transfer_to_right", "--trials", "1", "--workers", "1"]
    assert main([*command, "--max-seconds", "0.2", "--latency-ms", "20", "--execute-steps", "5", "--real-time"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[:5] for row in rows] == [
        ["transfer_to_right", "(held", "out)", condition, "1"] for condition in ("clean", "randomised")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "insertoin"], "Did you mean 'insertion'"),
        (["--server", "http://host:8000"], "must begin with ws://"),
        (["--key-file", "nowhere"], "--key-file nowhere is not a file"),
        (["--conditions", "mean_replay"], "give --packed, or leave it out of --conditions"),
        (["--conditions", "polciy"], "Did you mean 'policy'"),
        (["--task", "lift_rigth"], "Did you mean 'lift_right'"),
        (["--execute-steps", "11"], "execute_steps is 11, the policy's chunk has 10 steps"),
        (["--first-seed", "999999", "--trials", "2"], "scenes from 1000000 are collected for training"),
    ],
)
def test_closed_names_what_cannot_be_run(bundle, capsys, options, message):
    assert main(["evaluate", "closed", str(bundle), *options]) == 2
    assert message in capsys.readouterr().err


def test_closed_refuses_a_robot_without_a_simulator(capsys, monkeypatch):
    robot = SimpleNamespace(id="gr1", simulator=None)
    monkeypatch.setattr("model.bundle.load_bundle", lambda path: SimpleNamespace(robot=robot))
    assert main(["evaluate", "closed", "bundle"]) == 2
    assert "robot 'gr1' has no simulator here; use `lingbot evaluate open`" in capsys.readouterr().err
