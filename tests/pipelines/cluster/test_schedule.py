"""`lingbot runs schedule`: Kubeflow starts a pipeline by the clock."""

from collections.abc import Callable

import pytest

from tests.pipelines.cluster.kubeflow_api import Kubeflow

Lingbot = Callable[..., int]
NIGHTLY = ("runs", "schedule", "--profile", "here.yaml", "--cron", "0 3 * * *")


def test_what_the_clock_starts_is_the_pipeline_with_its_parameters(kubeflow: Kubeflow, lingbot: Lingbot) -> None:
    assert lingbot(*NIGHTLY) == 0
    (made,) = kubeflow.recurring.values()
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (made["status"], made["max_concurrency"], made["no_catchup"]) == ("ENABLED", "1", True)
    kubeflow.fire(made["recurring_run_id"])
    (run,) = kubeflow.runs
    assert run["runtime_config"]["parameters"]["pretrain_parameters"]["steps"] == 7
    kubeflow.until(lambda: run["state"] == "SUCCEEDED")


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_one_schedule_however_often_it_is_set_up_and_calls_fail(
    done: bool, kubeflow: Kubeflow, lingbot: Lingbot
) -> None:
    kubeflow.fail("create_recurring_run", status=0, done=done)
    assert lingbot(*NIGHTLY) == 0
    assert lingbot(*NIGHTLY) == 0
    assert len(kubeflow.recurring) == 1


def test_another_time_under_the_same_name_is_refused_and_a_removed_one_can_come_back(
    kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lingbot(*NIGHTLY) == 0
    assert lingbot(*NIGHTLY[:-1], "0 4 * * *") == 2
    assert "remove it first" in capsys.readouterr().err
    assert lingbot("runs", "schedule", "--profile", "here.yaml", "--list") == 0
    assert "enabled    0 0 3 * * *" in capsys.readouterr().out
    kubeflow.fail("delete_recurring_run", status=0, done=True)
    assert lingbot("runs", "schedule", "--profile", "here.yaml", "--remove") == 0
    assert lingbot("runs", "schedule", "--profile", "here.yaml", "--remove") == 2
    assert lingbot(*NIGHTLY) == 0
    assert len(kubeflow.recurring) == 1
