"""RoboTwin's evaluation against a real endpoint that serves a debug bundle; the simulator is a stand-in."""

import subprocess
import sys

import numpy as np
import pytest

from components.evaluate import robotwin
from model.errors import UserError
from model.evaluation.actors import noise_seed
from model.evaluation.records import read_trials
from model.inference import Observation
from pipelines.cli import main
from tests.components.endpoint.robotwin_task import StandInTask, evaluate

STEPS = 10
NAMES = {"cam_high": "head_camera", "cam_left_wrist": "left_camera", "cam_right_wrist": "right_camera"}


@pytest.fixture
def settings(bundle, tmp_path):
    """A task's configuration as RoboTwin hands it over, with `changes`."""

    def make(url, **changes):
        own = {"server": url, "bundle_digest": bundle.digest, "records": str(tmp_path), "robot": "aloha_sim"}
        theirs = {"task_name": "click_bell", "task_config": "demo_clean", "seed": 0, "ckpt_setting": "x"}
        return {**theirs, **own, "execute_steps": STEPS, **changes}

    return make


@pytest.fixture
def served(start, bundle, settings):
    """`served(bundle, **changes)` is a policy of RoboTwin behind a new endpoint."""
    models = []

    def make(what=bundle, **changes):
        where = start(what)
        models.append(robotwin.get_model(settings(f"ws://{where.host}", **changes)))
        return models[-1], where

    yield make
    for model in models:
        model.close()


def task(*succeed_at, step_lim=400):
    return StandInTask("click_bell", step_lim, succeed_at)


def records(tmp_path):
    return read_trials(tmp_path / "click_bell-demo_clean-seed0.jsonl")


def test_trials_become_records_that_are_scored(served, tmp_path, capsys):
    model, _ = served()
    bell = task(17, None, 20)
    assert evaluate(bell, model, range(3)) == [0, 2]
    outcomes = [(r.trial, r.outcome, r.seconds, r.looks, r.reason) for r in records(tmp_path)]
    assert outcomes == [
        ("seed0-0", "success", 17.0, 2, None),
        ("seed0-1", "failure", 400.0, 40, "not done within the limit of 400 actions"),
        ("seed0-2", "success", 20.0, 2, None),
    ]
    assert {r.model_version for r in records(tmp_path)} == {"7"}
    assert records(tmp_path)[1].instruction == "click the bell, wording 1"
    assert main(["evaluate", "score", str(tmp_path / "click_bell-demo_clean-seed0.jsonl")]) == 0
    assert "67%" in capsys.readouterr().out


def test_the_served_policy_acts_as_the_bundle_does(served, bundle):
    model, _ = served()
    bell = task(None, 17)
    bell.setup(1)
    first = bell.get_obs()
    images = {name: first["observation"][view]["rgb"] for name, view in NAMES.items()}
    state = first["joint_action"]["vector"].astype(np.float32)
    observation = Observation(images=images, state=state, task=bell.instruction)
    expected = bundle.infer([observation], seeds=[noise_seed(model.run.scene_seed(1), 0)])[0]
    assert evaluate(bell, model, [1]) == [1]
    limits = bundle.robot.limits
    taken = np.stack([action for _, action in bell.taken[:STEPS]])
    np.testing.assert_allclose(taken, np.clip(expected[:STEPS], limits[:, 0], limits[:, 1]), atol=1e-5)


def test_a_program_that_drives_the_policy_itself_gets_the_same_actions(served):
    model, _ = served()
    bell = task(17)
    bell.setup(0)
    model.set_language(bell.get_instruction())
    model.update_obs(bell.get_obs())
    asked = model.get_action()
    evaluate(bell, model, [0])
    np.testing.assert_array_equal(asked, np.stack([action for _, action in bell.taken[:STEPS]]))


def test_each_trial_has_noise_of_its_own(served):
    model, _ = served()
    bell = task(None)
    bell.setup(0)
    chunks = []
    for _ in range(2):
        model.reset_model()
        model.set_language(bell.get_instruction())
        model.update_obs(bell.get_obs())
        chunks.append(model.get_action())
    assert not np.array_equal(*chunks)


def test_a_program_that_asks_before_it_shows_is_told(settings):
    model = robotwin.get_model(settings("ws://127.0.0.1:1"))
    with pytest.raises(UserError, match="call set_language and update_obs before it"):
        model.get_action()


def test_a_whole_trial_may_be_left_to_the_policy(served, tmp_path):
    model, _ = served()
    bell = task(7)
    bell.setup(0)
    robotwin.eval_one_episode(bell, model)
    assert [(r.outcome, r.seconds) for r in records(tmp_path)] == [("success", 7.0)]


def test_a_trial_that_is_left_before_its_end_is_an_error(served, tmp_path):
    model, _ = served()
    bell = task(None)
    bell.setup(0)
    robotwin.eval(bell, model, bell.get_obs())
    robotwin.reset_model(model)
    (left,) = records(tmp_path)
    assert (left.outcome, left.reason) == ("error", f"RoboTwin left the trial after {STEPS} actions")


def test_a_server_that_goes_away_ends_the_trial_and_not_the_run(served, tmp_path):
    model, where = served()
    bell = task(7, None, None)
    assert evaluate(bell, model, [0]) == [0]
    where.stop()
    assert evaluate(bell, model, [1, 2]) == []
    assert [r.outcome for r in records(tmp_path)] == ["success", "error", "error"]
    assert "did not answer" in records(tmp_path)[1].reason


def test_an_answer_that_cannot_be_executed_fails_the_trial(served, monkeypatch, tmp_path):
    model, _ = served()
    bell = task(7)
    monkeypatch.setattr(model._actor, "act", lambda look: np.full((10, 14), np.nan))
    assert evaluate(bell, model, [0]) == []
    (failed,) = records(tmp_path)
    assert failed.outcome == "failure" and "140 values that are not finite (look 1, step 0)" in failed.reason
    assert bell.taken == []


def test_another_bundle_than_the_named_one_is_refused(served):
    model, _ = served(bundle_digest="other")
    with pytest.raises(UserError, match="wanted is other"):
        evaluate(task(7), model, [0])


def test_chunks_shorter_than_execute_steps_are_refused(served, bundle):
    model, _ = served(execute_steps=1000)
    with pytest.raises(UserError, match=f"execute_steps is 1000, the policy's chunk has {bundle.contract['horizon']}"):
        evaluate(task(7), model, [0])


def test_a_simulator_with_another_limit_is_refused(settings):
    model = robotwin.get_model(settings("ws://127.0.0.1:1"))
    with pytest.raises(UserError, match="allows 1000 actions for 'click_bell', the benchmark 400"):
        evaluate(task(7, step_lim=1000), model, [0])


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda seen: seen["observation"].pop("left_camera"), "no rgb of left_camera"),
        (lambda seen: seen["joint_action"].update(vector=np.zeros(16)), r"state has shape \(16,\), robot 'aloha_sim'"),
    ],
)
def test_an_observation_of_another_robot_is_named(settings, break_it, words):
    model = robotwin.get_model(settings("ws://127.0.0.1:1"))
    bell = task(7)
    bell.setup(0)
    seen = bell.get_obs()
    break_it(seen)
    with pytest.raises(UserError, match=words):
        robotwin.eval(bell, model, seen)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task_name": "click_bel"}, "Did you mean 'click_bell'"),
        ({"bundle_digest": ""}, "lacks bundle_digest"),
        ({"server": "127.0.0.1:8000"}, "must begin with ws://"),
        ({"execute_steps": -1}, "execute_steps is -1"),
        ({"robot": "robotwin_agilx"}, "Did you mean 'robotwin_agilex'"),
        ({"key_file": "nowhere"}, "key_file nowhere is not a file"),
    ],
)
def test_a_wrong_setting_is_named_before_the_first_trial(settings, changes, words):
    with pytest.raises(UserError, match=words):
        robotwin.get_model(settings("ws://127.0.0.1:1", **changes))


def test_records_of_an_earlier_run_are_kept(settings, tmp_path):
    (tmp_path / "click_bell-demo_clean-seed0.jsonl").write_text("earlier\n")
    with pytest.raises(UserError, match="holds an earlier run's trials"):
        robotwin.get_model(settings("ws://127.0.0.1:1"))


def test_robotwin_s_process_needs_no_framework():
    check = "import sys, components.evaluate.robotwin; print(sorted({'torch', 'mujoco', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
