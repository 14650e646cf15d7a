"""The suite: its plan, its figures, and that a real policy's trials do not depend on the number of workers."""

import numpy as np
import pytest

from model.bundle import create_bundle
from model.errors import UserError
from model.evaluation.closed_loop import SUITE, Bench, Rig, plan_suite
from model.evaluation.suite import suite_figures, violation_counts
from model.evaluation.trial import Pace
from model.evaluation.workers import LocalCrew, process_crew, run_jobs
from model.progress import Silent
from tests.model.evaluation.fakes import FakeBundle, FakeSimulation


def test_each_task_is_tried_under_each_condition_on_the_same_seeds():
    jobs = plan_suite(("touch_left", "insertion"), trials=3, first_seed=5)
    assert len(jobs) == 2 * 2 * 3 and len({job.key for job in jobs}) == len(jobs)
    for task in ("touch_left", "insertion"):
        for condition in SUITE:
            found = [job for job in jobs if (job.task, job.condition) == (task, condition)]
            assert [job.seed for job in found] == [5, 6, 7]
            assert all(job.randomised == (condition == "randomised") for job in found)


@pytest.mark.parametrize("workers", [0, -1])
def test_a_crew_has_somebody(workers):
    with (
        pytest.raises(UserError, match=f"workers is {workers}: it must be 1 or more"),
        process_crew(id, workers=workers),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tasks": ("insertoin",)}, "Did you mean 'insertion'"),
        ({"tasks": ("insertion", "insertion")}, "names the task insertion more than once"),
        ({"tasks": ("insertion",), "conditions": ("cleen",)}, "Did you mean 'clean'"),
        ({"tasks": ("insertion",), "first_seed": 999_999}, "collected for training"),
    ],
)
def test_a_suite_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        plan_suite(**{"trials": 2, **arguments})


def test_randomised_jobs_run_in_randomised_scenes_and_figures_keep_them_apart():
    made = []

    def make(task, *, randomise):
        made.append((task, randomise))
        return FakeSimulation(task, randomise=randomise)

    bench = Bench(FakeBundle(), make, trajectory=None, pace=Pace(execute_steps=3))
    records = [bench.run(job) for job in plan_suite(("lift_right", "lift_left"), trials=2)]
    assert made == [(task, wild) for task in ("lift_right", "lift_left") for wild in (False, True)]
    figures = suite_figures(records)
    assert list(figures) == ["lift_right", "lift_left"]
    assert all(figures[task][condition]["trials"] == 2 for task in figures for condition in SUITE)
    assert violation_counts(records) == {"limits": 8, "velocity": 6}, "targets of 3.1 are above 3, and jumps above 2"


def test_a_policy_ends_a_trial_the_same_way_with_one_and_two_workers(tmp_path):
    """With latency and real-time chunking, clean and randomised."""
    bundle = create_bundle(tmp_path / "bundle", preset="debug")
    rig = Rig(bundle=bundle.path, execute_steps=6, max_seconds=0.4, num_steps=2, latency_ms=40.0, real_time=True)
    jobs = plan_suite(("lift_right", "place_beside"), trials=2)
    bench = rig.open()
    expected = run_jobs(jobs, LocalCrew(bench), scratch=tmp_path / "a.jsonl", progress=Silent())
    bench.close()
    assert {record.looks for record in expected} == {4}, "20 control steps, a look every 6"
    with process_crew(rig.open, workers=2) as crew:
        assert run_jobs(jobs, crew, scratch=tmp_path / "b.jsonl", progress=Silent()) == expected


def test_real_time_chunks_go_on_with_what_is_executed(tmp_path):
    """The rows that are executed while the chunk is computed are repeated; an unguided chunk differs there."""
    from model.inference import Running

    bundle = create_bundle(tmp_path / "bundle", preset="debug")
    first, second = observation(bundle, 0), observation(bundle, 1)
    old = bundle.infer([first], seeds=[0])
    ahead = old[:, 4:]
    running = Running(actions=ahead, inference_delay=2, execution_horizon=4)
    guided = bundle.infer([second], seeds=[1], running=running)
    free = bundle.infer([second], seeds=[1])
    assert guided.shape == free.shape
    assert np.allclose(guided[:, :2], ahead[:, :2], atol=1e-4)
    assert np.abs(free[:, :2] - ahead[:, :2]).max() > 1e-2
    assert np.abs(guided[:, 2:6] - ahead[:, 2:6]).mean() < np.abs(free[:, 2:6] - ahead[:, 2:6]).mean()


def observation(bundle, seed):
    from model.inference import Observation

    rng = np.random.default_rng(seed)
    images = {
        camera["name"]: rng.integers(0, 256, (camera["height"], camera["width"], 3), dtype=np.uint8)
        for camera in bundle.contract["cameras"]
    }
    return Observation(images=images, state=np.zeros(len(bundle.contract["state"]), np.float32), task="lift")
