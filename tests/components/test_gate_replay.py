"""The gate asks for a replay when its policy does, and for nothing else then."""

import json

import pytest

from components.promote.gate import Policy, judge_inputs, verify
from components.promote.gate.policy import REPLAY
from components.promote.gate.replay import check_replay
from components.promote.gate.signing import Inputs
from model.errors import UserError

EVALUATION = {"bundle_digest": "d1"}
REPORT = {
    "looks": 200,
    "candidate": {"bundle_digest": "d1"},
    "unsafe": {"count": 0},
    "divergence": {"mean": 0.4},
    "jerk": {"recorded": 2.0, "candidate": 3.0},
    "violations": {"candidate": 5, "values": 1000},
    "latency_ms": {"candidate": {"p99": 80.0}},
}
ALL = {
    "min_replay_looks": 100,
    "max_replay_divergence": 0.5,
    "max_replay_jerk": 1.6,
    "max_replay_violations": 0.005,
    "max_replay_latency_ms": 100.0,
}


def passed(report, **demands):
    return {check.name: check.passed for check in check_replay(report, EVALUATION, Policy(**demands))}


def test_what_is_asked_for_and_held_passes():
    assert set(ALL) == set(REPLAY)
    assert list(passed(REPORT, **ALL).values()) == [True] * 5


@pytest.mark.parametrize(
    ("demand", "value", "name"),
    [
        ("min_replay_looks", 201, "replay"),
        ("max_replay_divergence", 0.39, "replay_divergence"),
        ("max_replay_jerk", 1.4, "replay_jerk"),
        ("max_replay_violations", 0.004, "replay_violations"),
        ("max_replay_latency_ms", 79.0, "replay_latency"),
    ],
)
def test_each_demand_refuses_by_itself(demand, value, name):
    found = passed(REPORT, **{**ALL, demand: value})
    assert [check for check, fine in found.items() if not fine] == [name]
    assert [check for check, fine in passed(REPORT, **{demand: value}).items() if not fine] == [name]


def test_a_policy_that_asks_for_none_reads_none():
    assert passed(None) == {} and passed({"nonsense": 1}) == {}


def test_a_replay_that_is_asked_for_and_was_not_made_refuses():
    assert passed(None, max_replay_jerk=2.0) == {"replay": False}


def test_an_answer_that_could_not_be_sent_refuses():
    assert passed({**REPORT, "unsafe": {"count": 1}}, **ALL)["replay"] is False


@pytest.mark.parametrize(("sent", "own", "fine"), [(0.0, 0.0, True), (0.0, 0.1, False)])
def test_where_nothing_jerked_nothing_may(sent, own, fine):
    assert passed({**REPORT, "jerk": {"recorded": sent, "candidate": own}}, max_replay_jerk=5.0)["replay_jerk"] is fine


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({**REPORT, "candidate": {"bundle_digest": "d2"}}, "is of bundle d2, the evaluation of another"),
        ({**REPORT, "looks": "many"}, "looks is 'many'"),
        ({**REPORT, "divergence": {"mean": float("nan")}}, "divergence.mean is nan"),
        ({key: value for key, value in REPORT.items() if key != "jerk"}, "lacks jerk"),
    ],
)
def test_a_report_that_cannot_be_judged_is_no_pass(report, words):
    with pytest.raises(UserError, match=words):
        passed(report, **ALL)


@pytest.mark.parametrize("value", [-1, float("inf")])
def test_demands_that_cannot_be_are_refused(value):
    with pytest.raises(UserError, match="max_replay_jerk"):
        Policy(max_replay_jerk=value)
    with pytest.raises(UserError, match="min_replay_looks 0 must be 1"):
        Policy(min_replay_looks=0)


def test_a_policy_that_asks_for_no_replay_has_the_digest_that_it_had_before_there_were_any():
    """The digest of the shipped defaults when they were written, so that stored verdicts stay what they are."""
    values = Policy().to_json()
    assert not set(REPLAY) & set(values) and "min_trials" in values
    assert set(Policy(max_replay_jerk=2.0).to_json()) - set(values) == {"max_replay_jerk"}


class TestBound:
    """To the bytes of the replay."""

    @pytest.fixture
    def inputs(self):
        evaluation = {"bundle_digest": "d1", "closed_loop": None, "robot": "r", "task": "t"}
        return lambda replay: Inputs(evaluation=json.dumps(evaluation).encode(), replay=replay)

    def test_a_verdict_names_the_replay_only_where_there_is_one(self, inputs):
        assert "replay" not in judge_inputs(inputs(None), Policy()).inputs
        assert len(judge_inputs(inputs(b"{}"), Policy()).inputs["replay"]) == 64

    def test_another_replay_or_none_is_noticed(self, inputs):
        verdict = judge_inputs(inputs(json.dumps(REPORT).encode()), Policy()).to_json()
        verify(verdict, inputs(json.dumps(REPORT).encode()))
        for other in (b"{}", None):
            with pytest.raises(UserError, match="the verdict was given on replay"):
                verify(verdict, inputs(other))
        without = judge_inputs(inputs(None), Policy()).to_json()
        with pytest.raises(UserError, match="replay absent"):
            verify(without, inputs(b"{}"))
