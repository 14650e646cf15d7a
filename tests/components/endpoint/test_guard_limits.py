"""Joint and velocity limits of a robot's file, clamped or rejected."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.endpoint.contract import Contract
from components.endpoint.errors import UnsafeAction
from components.endpoint.guard import guard

HZ = 10.0
LIMIT = 2.0  # rad/s: 0.2 rad a step


@pytest.fixture(scope="module")
def contract(bundle):
    """aloha_sim with a velocity limit on the left waist (dimension 0), which its file does not have."""
    plain = Contract.of(bundle)
    velocity = np.full(14, np.inf)
    velocity[0] = LIMIT
    return replace(plain, velocity=velocity, control_hz=HZ)


def chunk(contract, column):
    actions = np.full((contract.horizon, 14), 0.5, dtype=np.float32)
    actions[:, 0] = np.resize(np.asarray(column, dtype=np.float32), contract.horizon)
    return actions


def test_the_robot_s_file_gives_the_limits():
    from model.robots import load_robot

    franka = load_robot("franka_bimanual")
    facts = {
        "cameras": [{"name": name, "height": 32, "width": 32} for name in franka.cameras.values()],
        "state": list(franka.state_names), "action": list(franka.action_names), "horizon": 4, "control_hz": 20,
    }  # fmt: skip
    contract = Contract.of(type("Bundle", (), {"contract": facts, "robot": franka})())
    joint = contract.action.index("left_panda_joint5")
    assert contract.velocity[joint] == 2.61 and contract.upper[joint] == np.float32(2.8973)
    assert contract.control_hz == 20 and contract.state[contract.state_of_action[joint]] == "left_panda_joint5"


def test_relative_actions_are_held_to_no_limit_of_positions(bundle):
    robot = replace(bundle.robot, action_mode="relative")
    contract = Contract.of(type("Bundle", (), {"contract": bundle.contract, "robot": robot})())
    assert np.isinf(contract.upper).all() and np.isinf(contract.velocity).all()


def test_a_speed_inside_the_limit_is_not_touched(contract):
    actions = chunk(contract, np.arange(contract.horizon) * 0.2)
    guarded = guard(actions, contract, state=np.zeros(14, dtype=np.float32))
    np.testing.assert_array_equal(guarded.actions, actions)
    assert guarded.slowed == 0


def test_a_jump_is_spread_over_the_steps_that_it_takes(contract):
    actions = chunk(contract, [0.0] + [1.0] * (contract.horizon - 1))
    guarded = guard(actions, contract)
    np.testing.assert_allclose(guarded.actions[:7, 0], [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0], atol=1e-6)
    np.testing.assert_array_equal(guarded.actions[:, 1:], actions[:, 1:])
    assert (guarded.slowed, guarded.clipped) == (1, 0)


def test_the_first_action_is_held_against_the_measured_state(contract):
    state = np.zeros(14, dtype=np.float32)
    guarded = guard(chunk(contract, [1.5]), contract, state=state)
    assert guarded.slowed == 1
    assert guarded.actions[0, 0] == pytest.approx(0.2)
    assert guard(chunk(contract, [1.5]), contract).slowed == 0  # nothing is known of where it is


def test_a_joint_measured_outside_its_limits_may_come_back(contract):
    state = np.zeros(14, dtype=np.float32)
    state[0] = 4.0  # its limit is 3.14158
    guarded = guard(chunk(contract, [3.0]), contract, state=state)
    assert guarded.slowed == 0 and guarded.actions[0, 0] == 3.0


@pytest.mark.parametrize(
    ("column", "limit", "words"),
    [([9.0], "position", "position limit of left_waist"), ([0.0, 1.0], "velocity", "velocity limit of left_waist")],
)
def test_reject_sends_nothing_and_names_the_joint(contract, column, limit, words):
    with pytest.raises(UnsafeAction, match=words) as refusal:
        guard(chunk(contract, column), contract, mode="reject")
    assert refusal.value.reason == limit and refusal.value.values >= 1
    fine = chunk(contract, [0.1])
    np.testing.assert_array_equal(guard(fine, contract, mode="reject").actions, fine)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_policy_answers_what_is_sent_is_allowed(contract, data):
    values = st.floats(-20, 20, width=32)
    actions = data.draw(arrays(np.float32, (contract.horizon, 14), elements=values))
    state = data.draw(arrays(np.float32, 14, elements=values))
    velocity = np.array(data.draw(st.lists(st.sampled_from([0.5, 2.0, np.inf]), min_size=14, max_size=14)))
    held = replace(contract, velocity=velocity)
    sent = guard(actions, held, state=state).actions
    assert sent.dtype == np.float32 and np.isfinite(sent).all()
    assert (sent >= held.lower).all() and (sent <= held.upper).all()
    assert (np.abs(np.diff(sent, axis=0)) <= velocity / HZ + 1e-5).all()
    start = np.clip(state, held.lower, held.upper)
    assert (np.abs(sent[0] - start) <= velocity / HZ + 1e-5).all()
    again = guard(sent, held, state=state)
    assert (again.clipped, again.slowed) == (0, 0)
