"""`lingbot runs` on a cluster: list, show, watch, cancel and retry."""

import json
from collections.abc import Callable

import pytest

from components import state
from pipelines.cluster import api, records
from pipelines.cluster.following import steps_of
from pipelines.cluster.submission import run_key, submit_once
from tests.pipelines.cluster.conftest import compiled
from tests.pipelines.cluster.kubeflow_api import Kubeflow

Lingbot = Callable[..., int]


@pytest.fixture
def started(kubeflow: Kubeflow, lingbot: Lingbot) -> str:
    """The id here of a run whose first step goes on until it is released."""
    kubeflow.hold("collect")
    assert lingbot("run", "--profile", "here.yaml", "--no-wait") == 0
    return records.known()[-1]


def test_watching_ends_with_the_run_and_its_code(
    kubeflow: Kubeflow, lingbot: Lingbot, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "the wheel came off")
    kubeflow.release()
    assert lingbot("runs", "watch", started) == 1
    assert "the wheel came off" in capsys.readouterr().out
    assert records.read(started)["status"] == "failed"


def test_a_name_that_is_none_is_told_the_runs_on_clusters_too(
    lingbot: Lingbot, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lingbot("runs", "show", started[:-1] + "x") == 2
    assert f"it is none of {started}. Did you mean '{started}'" in capsys.readouterr().err
    for reference in (started, "last"):
        assert lingbot("compare", reference, reference) == 2
        assert f"run {started} is on a cluster" in capsys.readouterr().err


def test_a_record_that_cannot_be_read_hides_no_other(
    lingbot: Lingbot, kubeflow: Kubeflow, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lingbot("run", "--profile", "here.yaml", "--no-wait") == 0
    _, broken = records.known()
    path = state.run_folder(broken) / records.FILE
    path.write_text('{"schema_version": 2}')
    run_id = records.read(started)["run"]
    capsys.readouterr()
    assert lingbot("runs", "cancel", run_id[:8]) == 0
    said = capsys.readouterr()
    assert f"run {run_id} is being cancelled" in said.out and f"{path} cannot be read" in said.err
    assert lingbot("runs", "show", broken) == 2
    assert f"{path} cannot be read as the record of a run" in capsys.readouterr().err
    assert lingbot("runs", "list") == 0
    assert f"{broken}  unreadable" in (said := capsys.readouterr()).out and started in said.out


def test_an_address_that_is_another_servers_is_one_sentence(
    kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(api.ENDPOINT, f"{kubeflow.url}/mlflow")
    assert lingbot("runs", "list", "--profile", "here.yaml") == 2
    assert f"{kubeflow.url}/mlflow has no API of Kubeflow Pipelines (404)" in capsys.readouterr().err


def test_one_run_of_nothing_is_refused(lingbot: Lingbot, capsys: pytest.CaptureFixture[str]) -> None:
    """`--once "$COMMIT"` without a commit would start another run each time."""
    assert lingbot("run", "--profile", "here.yaml", "--once", "") == 2
    assert "--once is empty: give what the run is of" in capsys.readouterr().err


def test_retrying_goes_on_where_it_failed(
    kubeflow: Kubeflow, lingbot: Lingbot, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "the wheel came off", times=1)
    kubeflow.release()
    assert lingbot("runs", "retry", "last", "--no-wait") == 2
    assert "lingbot: run " in (said := capsys.readouterr().err) and "Kubeflow takes up failed ones" in said
    assert lingbot("runs", "watch", started) == 1
    capsys.readouterr()
    assert lingbot("runs", "retry", started) == 0
    said = capsys.readouterr().out
    assert "finished before: collect, validate, annotate, extract_depth_tokens" in said
    assert "collect: started" not in said
    assert len(kubeflow.runs) == 1
    assert records.read(started)["error"] is None


def test_a_retry_whose_answer_is_lost_is_one_retry(kubeflow: Kubeflow, lingbot: Lingbot, started: str) -> None:
    kubeflow.break_step("pack", "the wheel came off", times=1)
    kubeflow.release()
    assert lingbot("runs", "watch", started) == 1
    kubeflow.hold("pack")
    met = kubeflow.fail("retry_run", status=0, done=True)
    assert lingbot("runs", "retry", started, "--no-wait") == 0
    assert met.hits == 1
    kubeflow.release()
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "SUCCEEDED")


def test_the_list_tells_the_end_that_was_shown_and_that_it_goes_on_after_a_retry(
    kubeflow: Kubeflow, lingbot: Lingbot, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.break_step("pack", "the wheel came off", times=1)
    kubeflow.release()
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "FAILED")
    assert lingbot("runs", "show", started) == 0
    capsys.readouterr()
    assert lingbot("runs", "list") == 0
    assert f"{started}  " in (said := capsys.readouterr().out) and "  failed  " in said and "running?" not in said
    kubeflow.hold("pack")
    assert lingbot("runs", "retry", started, "--no-wait") == 0
    capsys.readouterr()
    assert lingbot("runs", "list") == 0
    assert "  running?  " in capsys.readouterr().out
    kubeflow.release()


def test_cancelling_ends_it_once(
    kubeflow: Kubeflow, lingbot: Lingbot, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow.fail("terminate_run", status=0, done=True)
    assert lingbot("runs", "cancel", started) == 0
    assert lingbot("runs", "watch", started) == 130
    assert records.read(started)["status"] == "stopped"
    assert lingbot("runs", "cancel", started) == 2
    assert "is stopped: there is nothing to cancel" in capsys.readouterr().err


def test_showing_one_by_either_name(
    kubeflow: Kubeflow, lingbot: Lingbot, started: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = kubeflow.runs[0]["run_id"]
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "RUNNING")
    capsys.readouterr()
    for name in (started, run_id, run_id[:8]):
        assert lingbot("runs", "show", name) == 0
        said = capsys.readouterr().out
        assert f"run {run_id}: running" in said
        assert "promote" in said, "what has not begun is shown too"
    assert lingbot("runs", "show", run_id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id


def test_lists_of_here_and_of_the_cluster(
    kubeflow: Kubeflow, lingbot: Lingbot, started: str, kfp: api.Kubeflow, package, capsys: pytest.CaptureFixture[str]
) -> None:
    other = submit_once(run_key("demonstrations_to_policy", {"by": "a trigger"}), package, kfp=kfp)
    capsys.readouterr()
    assert lingbot("runs", "list") == 0
    line, hint = capsys.readouterr().out.splitlines()
    assert line.startswith(started) and line.endswith(kubeflow.runs[0]["run_id"])
    assert "  running?  " in line and hint.startswith("running? was not followed to its end from here")
    assert lingbot("runs", "list", "--profile", "here.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [other, kubeflow.runs[0]["run_id"]], "newest first"
    assert lingbot("runs", "list", "--profile", "here.yaml", "--limit", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == other
    kubeflow.release()
    assert lingbot("runs", "watch", started) == 0
    capsys.readouterr()
    assert lingbot("runs", "list") == 0
    assert "  done  " in (said := capsys.readouterr().out) and "running?" not in said


def test_a_run_that_is_nowhere(lingbot: Lingbot, capsys: pytest.CaptureFixture[str]) -> None:
    assert lingbot("runs", "show", "00000000-0000-4000-8000-000000000000") == 2
    assert "has no run 00000000" in capsys.readouterr().err


def test_the_steps_of_a_study_are_told_apart(kubeflow: Kubeflow, kfp: api.Kubeflow, tmp_path) -> None:
    run_id = submit_once(run_key("study", {}), compiled(tmp_path, "preset=debug", pipeline="study"), kfp=kfp)
    kubeflow.until(lambda: kubeflow.runs[0]["state"] == "SUCCEEDED")
    run = kfp.run(run_id)
    steps = steps_of(kfp, run)
    names = [state.name for state in steps.states]
    policies = sum(name.startswith("evaluate@") for name in names)
    assert policies > 1 and names[0] == "collect" and names[-1] == "study"
    steps.update(run)
    assert [state.name for state in steps.states] == names, "every node is one of the steps that were expected"
    assert {state.status for state in steps.states} == {"done"}
