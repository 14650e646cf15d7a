"""A benchmark's protocol: GM-100's numbers by default, its task list from a file, and what it refuses by name."""

import dataclasses

import pytest

from model.errors import UserError
from model.evaluation.protocol import Protocol, read_protocol
from model.evaluation.records import Checkpoint, TrialRecord

FILE = """
benchmark: gm100
robots: [agilex, agibot_g1]
tasks:
  - name: fold_towel
    instruction: fold the towel
    checkpoints: [grasped, folded]
  - {name: open_box, checkpoints: [opened]}
"""
RECORD = TrialRecord(
    condition="real", policy="ours", bundle_digest="", task="fold_towel", instruction="", robot="agilex", trial="1",
    benchmark="gm100", outcome="success", reason=None, seconds=100.0,
    checkpoints=(Checkpoint(name="grasped", seconds=20.0), Checkpoint(name="folded", seconds=99.0)),
)  # fmt: skip


@pytest.fixture
def protocol(tmp_path) -> Protocol:
    path = tmp_path / "gm100.yaml"
    path.write_text(FILE)
    return read_protocol(path)


def test_a_protocol_has_the_numbers_of_gm_100_and_the_tasks_of_its_file(protocol):
    assert (protocol.trials_a_task, protocol.max_seconds) == (15, 180.0)
    assert list(protocol.tasks) == ["fold_towel", "open_box"]
    assert protocol.tasks["fold_towel"].instruction == "fold the towel"
    protocol.check(RECORD, "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "fold_towl"}, "unknown task of gm100 'fold_towl'.*Did you mean 'fold_towel'"),
        ({"robot": "agilx"}, "unknown robot of gm100 'agilx'.*Did you mean 'agilex'"),
        ({"benchmark": "other"}, "of benchmark 'other': this protocol is 'gm100'"),
        ({"checkpoints": RECORD.checkpoints[:1]}, "\\['grasped'\\] are not those of the task"),
        (
            {"checkpoints": (Checkpoint(name="folded", seconds=1.0), Checkpoint(name="grasped", seconds=2.0))},
            "out of order: 'fold_towel' has \\['grasped', 'folded'\\]",
        ),
        ({"seconds": 181.0}, "succeeded after the limit of 180 s"),
        (
            {
                "seconds": 200.0, "outcome": "failure", "reason": "late",
                "checkpoints": (Checkpoint(name="grasped", seconds=190.0), Checkpoint(name="folded", seconds=None)),
            },
            "passed a checkpoint or succeeded after the limit",
        ),
    ],
)  # fmt: skip
def test_a_trial_that_the_protocol_does_not_allow_is_named(protocol, changes, message):
    with pytest.raises(UserError, match=f"here.*{message}"):
        protocol.check(dataclasses.replace(RECORD, **changes), "here")


def test_missing_trials_are_counted_and_surplus_ones_refused(protocol):
    records = [dataclasses.replace(RECORD, trial=str(trial)) for trial in range(15)]
    assert protocol.missing(records) == ["ours has 0 of 15 trials of open_box on agilex"]
    assert protocol.missing(records[:12])[0] == "ours has 12 of 15 trials of fold_towel on agilex"
    with pytest.raises(UserError, match="'ours' has 16 trials of 'fold_towel' on agilex .*takes 15"):
        protocol.missing([*records, dataclasses.replace(RECORD, trial="again")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not valid YAML"),
        ("- a", "a protocol is \\['a'\\]: give it benchmark, tasks"),
        ("benchmark: x", "lists 0 tasks"),
        ("tasks: []", "a protocol has no 'benchmark'"),
        ("benchmark: x\ntask: []", "unknown field of a protocol 'task'.*Did you mean 'tasks'"),
        ("benchmark: x\ntasks: [{name: a}]", "a task has no 'checkpoints'"),
        ("benchmark: x\ntasks: [{name: a, checkpoints: []}]", "one checkpoint or more"),
        ("benchmark: x\ntasks: [{name: a, checkpoints: [b, b]}]", "a name of its own"),
        ("benchmark: x\ntasks: [{name: a, checkpoints: b}]", "checkpoints is 'b': give a list of texts"),
        ("benchmark: x\ntasks: [{name: a, checkpoints: [b]}, {name: a, checkpoints: [b]}]", "'a' is listed twice"),
        ("benchmark: x\ntrials_a_task: many\ntasks: [{name: a, checkpoints: [b]}]", "is 'many': give a number"),
        ("benchmark: x\nmax_seconds: 0\ntasks: [{name: a, checkpoints: [b]}]", "both must be above 0"),
    ],
)
def test_a_file_that_is_no_protocol_is_named(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_protocol(path)
    with pytest.raises(UserError, match="is not a file"):
        read_protocol(tmp_path / "none.yaml")
