"""Trial records: what is written is read back, and what cannot be true is refused by name."""

import dataclasses
import json

import pytest

from model.errors import UserError
from model.evaluation.records import Checkpoint, TrialRecord, read_trials, write_trials

RECORD = TrialRecord(
    condition="policy", policy="bundle", bundle_digest="abc", task="lift_right", instruction="lift the cube",
    robot="aloha_sim", seed=3, outcome="failure", reason="time limit of 8.0 s", seconds=8.0, looks=8,
    checkpoints=(Checkpoint(name="touched", seconds=1.5), Checkpoint(name="held", seconds=None)),
)  # fmt: skip


def test_records_are_written_sorted_and_read_back(tmp_path):
    records = [dataclasses.replace(RECORD, seed=seed) for seed in (10, 2, 7)]
    write_trials(tmp_path / "a.jsonl", records)
    write_trials(tmp_path / "b.jsonl", reversed(records))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert [record.seed for record in read_trials(tmp_path / "a.jsonl")] == [2, 7, 10]
    assert read_trials(tmp_path / "a.jsonl")[0] == dataclasses.replace(RECORD, seed=2)
    assert RECORD.progress == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome": "won"}, "outcome 'won' must be"),
        ({"checkpoints": []}, "lists no checkpoints"),
        ({"checkpoints": [{"name": "a", "seconds": None}, {"name": "b", "seconds": 2.0}]}, "out of order"),
        ({"checkpoints": [{"name": "a", "seconds": 3.0}, {"name": "b", "seconds": 2.0}]}, "out of order"),
        ({"reason": None}, "needs a reason"),
        ({"schema_version": 9}, "schema_version 9"),
        ({"speed": 1}, "is not a trial record"),
    ],
)
def test_a_record_that_cannot_be_true_is_named_with_its_line(tmp_path, changes, message):
    path = tmp_path / "trials.jsonl"
    path.write_text(RECORD.to_line() + "\n" + json.dumps(json.loads(RECORD.to_line()) | changes) + "\n")
    with pytest.raises(UserError, match=f"trials.jsonl:2.*{message}"):
        read_trials(path)


def test_duplicates_mixed_bundles_and_broken_files_are_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    with pytest.raises(UserError, match="is not a file"):
        read_trials(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no trial"):
        read_trials(path)
    path.write_text("{half\n")
    with pytest.raises(UserError, match="trials.jsonl:1 is not JSON"):
        read_trials(path)
    write_trials(path, [RECORD, RECORD])
    with pytest.raises(UserError, match="1 trials more than once"):
        read_trials(path)
    write_trials(path, [RECORD, dataclasses.replace(RECORD, bundle_digest="def", seed=4)])
    with pytest.raises(UserError, match="mixes trials of 2 bundles \\(abc, def\\)"):
        read_trials(path)
