"""The robot for people without one, in a small world with scripted servers; the client's tests have the real arms."""

import numpy as np
import pytest

from lingbot_client import Backoff, PolicyClient
from model.errors import UserError
from model.evaluation.actors import noise_seed
from model.simulation import robot
from model.simulation.robot import choose_task, main, make_simulation, play
from tests.components.endpoint.client.scripted_server import CONTRACT, METADATA, scripted
from tests.model.evaluation.fakes import FakeSimulation


class World(FakeSimulation):
    """With ticks and an instruction: five ticks a step."""

    def __init__(self, task="lift_right"):
        super().__init__(task)
        self.task.instruction = "reach the target"

    def step(self, action, on_tick=None):
        result = super().step(action)
        for _ in range(5 if on_tick else 0):
            on_tick()
        return result


class Recorder:
    def __init__(self):
        self.ticks, self.ends = [], []

    def tick(self, showing):
        self.ticks.append((showing.seconds, showing.looks, showing.text()))

    def end(self, showing):
        self.ends.append((showing.outcome, showing.checkpoints()))


def towards(value):
    def answer(message, number):
        identity = {"bundle_digest": "digest-1", "model_version": "4", "model_name": "m"}
        return {"actions": np.full((4, 2), value, np.float32), **identity}

    return answer


def asked(script):
    return [message for message in script.messages if "task" in message]


def test_a_policy_that_reaches_the_target_is_done_and_shown():
    with scripted(towards(2.0)) as script, PolicyClient(script.url) as client:
        screen = Recorder()
        played = play(client, World(), seed=1, execute_steps=3, screen=screen)
        assert (played.success, played.seconds, played.checkpoints) == (True, 0.4, ("near", "there"))
        assert len(played.latencies) == 2 and "done after 0.4 s (near, there), 2 looks" in played.sentence()
        assert len(screen.ticks) == 4 * 5 and [tick[1] for tick in screen.ticks] == [1] * 15 + [2] * 5
        assert "reach the target" in screen.ticks[0][2][0] and "m version 4   scene 1" in screen.ticks[0][2][1]
        assert screen.ends == [("done", [("near", True), ("there", True)])]
        looks = asked(script)
        assert [look["seed"] for look in looks] == [noise_seed(1, 0), noise_seed(1, 3)], "the same scene moves the same"
        assert looks[1]["observation.state"][0] == 1.5 and looks[0]["task"] == "reach the target"


def test_a_policy_that_does_not_is_stopped_when_the_time_is_over():
    with scripted(towards(0.4)) as script, PolicyClient(script.url) as client:
        played = play(client, World(), seed=0)
        assert not played.success and played.seconds == 2.0 and len(asked(script)) == 5
        assert "not done within 2.0 s (no checkpoint)" in played.sentence()


def test_each_episode_has_a_name_of_its_own():
    with scripted(towards(0.4)) as script, PolicyClient(script.url) as client:
        for seed in (0, 1):
            play(client, World(), seed=seed)
        names = [message["episode_id"] for message in script.messages]
        assert len(set(names)) == 2 and [m.get("reset") for m in script.messages].count(True) == 2


def test_the_task_is_one_that_the_policy_has_learned():
    assert choose_task("", ["lift the cube with the left arm"]).name == "lift_left"
    assert choose_task("", ["fold the shirt"]).name == "lift_right"
    assert choose_task("insertion", ["lift the cube with the left arm"]).name == "insertion"
    with pytest.raises(UserError, match="Did you mean 'lift_left'"):
        choose_task("lift_letf", [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cameras": [{"name": "cam_high", "height": 32, "width": 48}]}, "squares of one size"),
        ({"control_hz": 12.5}, "12.5 Hz"),
        ({"control_hz": 7.0}, "fps 7 is no divisor"),
    ],
)
def test_what_the_arms_cannot_give_is_said(changes, words):
    with scripted(metadata=lambda number: {**METADATA, "contract": {**CONTRACT, **changes}}) as script:
        with PolicyClient(script.url) as client, pytest.raises(UserError, match=words):
            make_simulation(client, choose_task("lift_right", []))


def test_the_command_answers_mistakes_in_one_line_with_code_2(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("lingbot_client.client.Backoff", lambda: Backoff(first=0.01, patience=0.05))
    with scripted() as script:
        url = script.url
        video = ["--video", str(tmp_path / "out.mp4")]
        assert main(["--server", url, *video]) == 2
        assert "its state has 2 values, the robot's 14" in capsys.readouterr().err
    for arguments, words in (
        (["--server", url], "cannot be reached"),
        (["--server", "127.0.0.1:8000"], "write ws://HOST:PORT"),
        (["--server", url, "--episodes", "0"], "must be 1 or more"),
        (["--server", url, "--key-file", str(tmp_path / "none")], "is not a file"),
    ):
        assert main([*arguments, *video]) == 2
        error = capsys.readouterr().err
        assert words in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_screen_is_where_a_display_is(monkeypatch):
    monkeypatch.setattr(robot.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not robot.has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert robot.has_screen()
