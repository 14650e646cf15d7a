"""The simulated arms against a real endpoint, filmed."""

import av
import numpy as np
import pytest

from model.simulation import environment, robot
from model.simulation.tasks import TASKS


@pytest.fixture
def short_task(monkeypatch):
    """`lift_right` with a limit of 0.4 s."""
    from dataclasses import replace

    monkeypatch.setitem(TASKS, "lift_right", replace(TASKS["lift_right"], max_seconds=0.4))


def test_a_newcomer_sees_the_served_policy_move(start, bundle, tmp_path, capsys, short_task):
    where = start(bundle)
    video = tmp_path / "robot.mp4"
    assert robot.main(["--server", where.url, "--video", str(video), "--execute-steps", "10"]) == 0
    said = capsys.readouterr().out
    assert "scene 0: not done within 0.4 s" in said and "version 7" in said
    with av.open(str(video)) as film:
        stream = film.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        assert float(stream.average_rate) == 25
    assert len(frames) == (0.4 + 1.0) * 25 and frames[0].shape == (544, 800, 3)
    scene = [frame[:480, :640].astype(int) for frame in frames]
    moved = np.abs(scene[9] - scene[0]).max(axis=2) > 60
    assert 100 < moved.sum() < moved.size / 4, "the arms move, the table stands"
    red = (scene[0][..., 0] > 200) & (scene[0][..., 1] < 60)
    assert 100 < red.sum() < 3000, "the cube is seen"
    views = frames[0][:480, 640:]
    assert all(views[160 * n : 160 * n + 160].std() > 5 for n in range(3)), "and what the policy sees"


def test_the_simulation_is_what_it_was_for_who_watches_or_not():
    """The spectator's camera and the ticks change nothing that the policy or the judge sees."""
    from model.simulation.spectator import Spectator

    def run(watched):
        with environment.Simulation("lift_right", image_size=32) as simulation:
            simulation.reset(3)
            spectator = Spectator(simulation) if watched else None
            seen = []
            for _ in range(3):
                simulation.step(np.full(14, 0.1), (lambda: spectator.frame({}, ("", ""), [])) if watched else None)
                seen.append((simulation.observe(), simulation.state()))
            if spectator:
                spectator.close()
            return seen

    for (one, state), (other, same) in zip(run(True), run(False), strict=True):
        assert np.array_equal(state, same)
        assert all(np.array_equal(one["images"][name], other["images"][name]) for name in one["images"])
