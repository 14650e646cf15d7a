"""The stand-in is one: Kubeflow's own client works with it, and it refuses what was not published."""

from pathlib import Path

import pytest
import urllib3
from kfp import client as kfp_client
from kfp_server_api.exceptions import ApiException

from model.errors import UserError
from pipelines.cluster import api
from tests.pipelines.cluster.conftest import QUICK
from tests.pipelines.cluster.kubeflow_api import Kubeflow
from tests.pipelines.cluster.kubeflow_shapes import operations


@pytest.mark.filterwarnings("ignore:This client only works with Kubeflow Pipeline")
def test_kubeflows_own_client_starts_and_ends_runs(
    kubeflow: Kubeflow, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    client = kfp_client.Client(host=kubeflow.url)
    experiment = client.create_experiment("mine")
    assert client.create_experiment("mine").experiment_id == experiment.experiment_id
    pipeline = client.pipelines.pipeline_service_create_pipeline({"display_name": "p", "name": "p"})
    version = client.upload_pipeline_version(str(package), "v1", pipeline_id=pipeline.pipeline_id)
    run = client.run_pipeline(
        experiment.experiment_id, "a run", pipeline_id=pipeline.pipeline_id, version_id=version.pipeline_version_id
    )
    ended = client.wait_for_run_completion(run.run_id, timeout=60, sleep_duration=0.05)
    assert ended.state == "SUCCEEDED"
    assert [task.display_name for task in ended.run_details.task_details if task.state == "SUCCEEDED"].count(
        "pack"
    ) == 1
    assert [found.run_id for found in client.list_runs(experiment_id=experiment.experiment_id).runs] == [run.run_id]
    with pytest.raises(ApiException, match="Workflow must be Failed"):
        client.runs.run_service_retry_run(run.run_id)


def test_it_has_the_published_paths_and_no_others(kubeflow: Kubeflow) -> None:
    assert len(operations()) > 30
    pool = urllib3.PoolManager(retries=False)
    assert pool.request("GET", f"{kubeflow.url}/apis/v2beta1/wheels").status == 404
    reply = pool.request("POST", f"{kubeflow.url}/apis/v2beta1/experiments", json={"display_name": "x", "wheel": 4})
    assert (reply.status, "unknown field ['wheel']" in reply.json()["message"]) == (400, True)


def test_a_token_is_read_again_for_every_call(
    kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    monkeypatch.setenv(api.TOKEN_PATH, str(token))
    kubeflow.wire.token = "first"
    client = api.connect(patience=QUICK)
    assert client.user_namespace == {}
    kubeflow.wire.token = "second"
    with pytest.raises(UserError, match="log in again"):
        list(client.pages(client.runs.run_service_list_runs, "listing", "runs"))
    token.write_text("second\n")
    assert list(client.pages(client.runs.run_service_list_runs, "listing", "runs")) == []


def test_a_kubeflow_of_several_users_is_told_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with Kubeflow(multi_user=True) as several:
        monkeypatch.setenv(api.ENDPOINT, several.url)
        monkeypatch.setenv(api.NAMESPACE, "team")
        from pipelines.cluster.once import experiment_id

        assert experiment_id(api.connect(patience=QUICK))
        assert [found["namespace"] for found in several.experiments.values()] == ["team"]


def test_lists_are_read_to_their_last_page(
    kubeflow: Kubeflow, kfp: api.Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_PAGE", 2)
    names = [f"experiment {number}" for number in range(5)]
    for name in names:
        kfp.read(kfp.experiments.experiment_service_create_experiment, "making one", {"display_name": name})
    listed = kfp.pages(kfp.experiments.experiment_service_list_experiments, "listing", "experiments")
    assert [found["display_name"] for found in listed] == names
    assert kubeflow.wire.requests.count("list_experiments") == 3
