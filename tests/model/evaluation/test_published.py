"""Published figures: complete, with a source, and shown beside trials of the same benchmark alone."""

import pytest

from model.evaluation.published import ALL, beside, published
from model.evaluation.robotwin import BENCHMARK, CONDITIONS, step_limits
from model.robots import load_robot
from tests.model.evaluation.trial_records import record


def real(task: str, robot: str = "agilex", benchmark: str = "gm100", condition: str = "real"):
    return record(0, True, condition=condition, task=task, robot=robot, benchmark=benchmark)


def test_each_average_over_the_robots_is_the_mean_of_its_robots():
    # Published with two digits: the table here was copied right if its own averages come out.
    results = published()["gm100"].results
    of = {(one.policy, one.robot): one for one in results}
    policies = dict.fromkeys(one.policy for one in results)
    assert len(policies) == 5 and len(results) == 20
    for policy in policies:
        robots = [of[policy, robot] for robot in ("agibot_g1", "agilex", "galaxea_r1_pro")]
        for rate in ("sr", "ps"):
            mean = sum(getattr(one, rate) for one in robots) / 3
            assert getattr(of[policy, ALL], rate) == pytest.approx(mean, abs=0.6e-4), (policy, rate)


def test_every_figure_has_a_source_and_a_robot_that_is_known_here():
    for benchmark in published().values():
        for one in benchmark.results:
            assert one.source and 0 < one.sr < 1 and (one.ps is None or one.sr < one.ps < 1)
            assert one.robot == ALL or load_robot(one.robot).id == one.robot


def test_robotwin_is_the_benchmark_of_its_adapter():
    found = published()[BENCHMARK]
    assert found.tasks == len(step_limits())
    assert {one.condition for one in found.results} == set(CONDITIONS.values())


def test_what_stands_beside_is_of_the_robots_and_conditions_that_were_tried():
    found = beside([real("fold_towel"), real("open_box")])
    assert (found["tasks"], found["tried"]) == (100, 2)
    assert {one["robot"] for one in found["results"]} == {"agilex", ALL}
    clean = beside([real("click_bell", benchmark=BENCHMARK, condition="clean")])
    assert {one["condition"] for one in clean["results"]} == {"clean"}


@pytest.mark.parametrize(
    ("benchmark", "condition"), [("aloha_mujoco", "clean"), ("gm100", "in the dark"), ("real", "real")]
)
def test_nothing_stands_beside_another_benchmark(benchmark, condition):
    assert beside([real("lift_right", benchmark=benchmark, condition=condition)]) is None
