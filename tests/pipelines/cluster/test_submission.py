"""Submitting: one run of a key, whatever calls fail and whoever asks."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from pipelines.cluster import api
from pipelines.cluster.once import Claims
from pipelines.cluster.submission import run_key, submit_once
from tests.pipelines.cluster.conftest import QUICK
from tests.pipelines.cluster.kubeflow_api import Kubeflow
from tests.pipelines.cluster.kubeflow_runs import now

KEY = run_key("demonstrations_to_policy", {"dataset": "d" * 64})


def test_the_compiled_pipeline_goes_up_unchanged_with_the_runs_parameters(
    kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path
) -> None:
    run_id = submit_once(KEY, package, {"pretrain_parameters": {"steps": 7}}, description="by hand", kfp=kfp)
    (run,) = kubeflow.runs
    assert run["run_id"] == run_id
    assert kubeflow.wire.uploads == [package.read_text()]
    assert run["runtime_config"]["parameters"] == {"pretrain_parameters": {"steps": 7}}
    assert run["description"].startswith("by hand\n")
    assert KEY in run["description"]


def test_equal_keys_are_one_run_and_others_are_not(kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path) -> None:
    first = submit_once(KEY, package, kfp=kfp)
    assert submit_once(KEY, package, kfp=kfp) == first
    assert submit_once(run_key("demonstrations_to_policy", {"dataset": "e" * 64}), package, kfp=kfp) != first
    assert len(kubeflow.runs) == 2


def test_a_run_that_has_ended_is_still_the_run_of_its_key(kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path) -> None:
    first = submit_once(KEY, package, kfp=kfp)
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "SUCCEEDED")
    assert submit_once(KEY, package, kfp=kfp) == first


@pytest.mark.parametrize(
    ("where", "status", "done"),
    [
        ("create_run", 429, False),
        ("create_run", 503, False),
        ("create_run", 503, True),
        ("create_run", 0, False),
        ("create_run", 0, True),
        ("upload_pipeline_version", 0, True),
        ("create_pipeline", 0, True),
        ("create_experiment", 503, True),
    ],
)
def test_a_call_that_failed_is_neither_lost_nor_done_twice(
    where: str, status: int, done: bool, kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path
) -> None:
    met = kubeflow.fail(where, status, done=done)
    run_id = submit_once(KEY, package, kfp=kfp)
    assert met.hits == 1
    assert [run["run_id"] for run in kubeflow.engine.runs.values()] == [run_id]
    assert len(kubeflow.versions) == len(kubeflow.pipelines) == len(kubeflow.experiments) == 1


def ask_at_once(package: Path, many: int) -> list[str]:
    """What so many callers are told who ask for the same at the same time, each with a connection of its own."""
    ready = threading.Barrier(many)

    def ask(_: int) -> str:
        client = api.connect(patience=replace(QUICK, api=600.0, claim=600.0, longest=0.02 * many))
        ready.wait(60)
        return submit_once(KEY, package, kfp=client)

    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(ask, range(many)))


def test_many_ask_at_once_while_half_of_all_calls_fail(kubeflow: Kubeflow, package: Path) -> None:
    kubeflow.fail_half(seed=0)
    answers = ask_at_once(package, 6)
    assert [run["run_id"] for run in kubeflow.engine.runs.values()] == answers[:1]
    assert len(set(answers)) == 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_ask_at_once_while_half_of_all_calls_fail(seed: int, kubeflow: Kubeflow, package: Path) -> None:
    kubeflow.fail_half(seed)
    answers = ask_at_once(package, 100)
    assert [run["run_id"] for run in kubeflow.engine.runs.values()] == answers[:1]
    assert len(set(answers)) == 1


def test_what_was_claimed_by_somebody_who_died_is_started_by_the_next(
    kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path
) -> None:
    kubeflow.fail("create_run", status=403)
    with pytest.raises(UserError, match="ask for the permission"):
        submit_once(KEY, package, kfp=kfp)
    assert len(kubeflow.versions) == 1
    run_id = submit_once(KEY, package, kfp=replace(kfp, patience=replace(QUICK, claim=0.2)))
    assert [run["run_id"] for run in kubeflow.runs] == [run_id]
    assert len(kubeflow.versions) == 2


def test_whoever_comes_second_waits_for_the_first(kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path) -> None:
    kubeflow.fail("create_run", status=503, times=4)  # the first is held up after its claim
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit_once, KEY, package, kfp=kfp)
        kubeflow.until(lambda: kubeflow.versions)
        second = submit_once(KEY, package, kfp=api.connect(patience=QUICK))
        assert first.result(60) == second
    assert len(kubeflow.versions) == len(kubeflow.engine.runs) == 1


def test_a_server_that_does_late_what_it_was_asked_leaves_one_run(
    kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path
) -> None:
    kubeflow.hold("collect")
    kubeflow.fail("create_run", status=-1)
    first = submit_once(KEY, package, kfp=replace(kfp, patience=replace(QUICK, settle=0.05)))
    made = kubeflow.runs[0]["created_at"]
    kubeflow.until(lambda: now() > made)  # as Kubeflow's times are whole seconds, of one second either is the first
    kubeflow.wire.late.set()
    kubeflow.until(lambda: len(kubeflow.engine.runs) == 2)
    again = submit_once(KEY, package, kfp=kfp)
    kubeflow.until(lambda: sum(run["state"] == "CANCELED" for run in kubeflow.engine.runs.values()) == 1)
    assert [run["run_id"] for run in kubeflow.runs] == [again] == [first]


def test_what_may_have_been_done_is_waited_for_before_it_is_asked_again(
    kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path
) -> None:
    kubeflow.fail("create_run", status=-1)
    asked = kubeflow.wire.requests.count
    with ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(submit_once, KEY, package, kfp=replace(kfp, patience=replace(QUICK, settle=120.0)))
        kubeflow.until(lambda: asked("create_run") == 1)
        looked = asked("list_runs")
        kubeflow.until(lambda: asked("list_runs") > looked + 2)
        kubeflow.wire.late.set()
        run_id = submitted.result()
    assert [run["run_id"] for run in kubeflow.engine.runs.values()] == [run_id]
    assert kubeflow.wire.requests.count("create_run") == 1


def test_of_two_that_saw_no_claim_one_gets_it(
    kfp: api.Kubeflow, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Claims(kfp, KEY, package), Claims(kfp, KEY, package)
    look, looks = second._versions, []

    def look_too_early(*given: Any) -> list[Any]:
        looks.append(given)
        return [] if len(looks) <= 2 else look(*given)

    monkeypatch.setattr(second, "_versions", look_too_early)
    claimed = first.take()
    assert claimed is not None and claimed[0] == 1
    assert second.take() is None
    assert first.take() == claimed, "it keeps it"
    assert second.take() is None


def test_an_api_that_is_away_is_waited_for_and_then_said(kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path) -> None:
    kubeflow.fail(".*", status=503, times=10_000)
    with pytest.raises(UserError, match=r"has not answered for 0 s \(503: stand-in: asked to answer 503\)"):
        submit_once(KEY, package, kfp=replace(kfp, patience=replace(QUICK, api=0.1)))


def test_what_the_api_does_not_take_is_said(kubeflow: Kubeflow, kfp: api.Kubeflow, package: Path) -> None:
    with pytest.raises(UserError, match="parameter wheel_parameters is not an input of the pipeline"):
        submit_once(KEY, package, {"wheel_parameters": {}}, kfp=kfp)
    assert kubeflow.wire.requests.count("create_run") == 1
