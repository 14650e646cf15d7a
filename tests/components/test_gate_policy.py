"""The gate's YAML: what ships, and that a wrong key or value is named with its file."""

import dataclasses

import pytest
import yaml

from components.promote.gate import Policy, load_policy
from components.promote.gate.policy import DEFAULT, SHIPPED
from model.errors import UserError


def written(folder, text):
    path = folder / "gate.yaml"
    path.write_text(text)
    return path


def test_what_ships_is_the_default_and_names_every_key():
    assert load_policy() == Policy()
    assert list(yaml.safe_load(DEFAULT.read_text())) == [field.name for field in dataclasses.fields(Policy)]


def test_every_shipped_gate_is_at_least_as_strict_as_the_default():
    gates = [load_policy(path) for path in sorted(SHIPPED.glob("*.yaml"))]
    assert len(gates) > 1
    for gate in gates:
        assert gate.min_trials >= 50 and gate.min_success_rate >= 0.4 and gate.max_drop <= 0.05


def test_a_file_changes_what_it_names_alone(tmp_path):
    assert load_policy(written(tmp_path, "min_trials: 7\n")) == Policy(min_trials=7)


def test_a_comment_does_not_change_the_digest_and_a_value_does(tmp_path):
    assert load_policy(written(tmp_path, "min_trials: 50 # as ever\n")).digest == Policy().digest
    assert Policy(min_trials=51).digest != Policy().digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_trails: 5", "unknown key of the gate .*gate.yaml 'min_trails'.*Did you mean 'min_trials'"),
        ("min_trials: many", "gate.yaml: min_trials is 'many': it must be a whole number"),
        ("min_trials: 0", "min_trials 0 must be at least 1"),
        ("min_success_rate: 60", "min_success_rate 60.0 must be from 0 to 1"),
        ("min_success_rate: .nan", "min_success_rate is nan: it must be a number that is finite"),
        ("min_success_rate: null", "min_success_rate is None: it must be a number"),
        ("min_advantage: 30", "min_advantage 30.0 must be from -1 to 1"),
        ("max_drop: -0.1", "max_drop -0.1 must be from 0 to 1"),
        ("regression_alpha: 0", "regression_alpha 0.0 must be between 0 and 1"),
        ("max_limit_violations: -1", "max_limit_violations -1 must be 0 or more"),
        ("max_latency_ms: 0", "max_latency_ms 0.0 must be above 0"),
        ("require_improvement: 1", "require_improvement is 1: it must be true or false"),
        ("- 1", "must map keys such as min_trials to values, it is a list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_policy(written(tmp_path, text))


def test_a_missing_file_is_named_with_what_ships(tmp_path):
    with pytest.raises(UserError, match=r"none.yaml is not a file.*default.yaml, fleet.yaml ship"):
        load_policy(tmp_path / "none.yaml")
