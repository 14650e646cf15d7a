"""What a run on a cluster cost: priced as it was when it was started, from wherever it is looked at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import state
from pipelines.cluster import records
from tests.pipelines.cluster.kubeflow_api import Kubeflow

Lingbot = Callable[..., int]
PRICES = "currency: EUR\ncpu_hour: 7.0\ngpu_hours: {nvidia.com/gpu: 3.0}\nstorage_gb_month: 0.5\n"


@pytest.fixture
def priced(lingbot: Lingbot, tmp_path: Path) -> Path:
    """The prices that the profile names."""
    profile = yaml.safe_load((tmp_path / "here.yaml").read_text())
    (tmp_path / "here.yaml").write_text(yaml.safe_dump({**profile, "prices": "mine.yaml"}))
    (tmp_path / "mine.yaml").write_text(PRICES)
    return tmp_path / "mine.yaml"


def cost_of(run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state.run_folder(run_id) / "summary.json").read_text())["cost"]
    return found


@pytest.mark.parametrize("text", [None, "currency: EUR", PRICES.replace("7.0", "-7")])
def test_prices_that_cannot_be_read_are_said_before_anything_is_started(
    text: str | None, priced: Path, kubeflow: Kubeflow, lingbot: Lingbot, capsys: pytest.CaptureFixture[str]
) -> None:
    priced.unlink() if text is None else priced.write_text(text)
    assert lingbot("run", "--profile", "here.yaml") == 2
    error = capsys.readouterr().err
    assert "mine.yaml" in error or "cpu_hour of the prices is -7" in error
    assert not kubeflow.runs and not records.known()


def test_a_run_is_priced_as_it_was_started(
    priced: Path, kubeflow: Kubeflow, lingbot: Lingbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is watched from another folder, and the file is gone."""
    assert lingbot("run", "--profile", "here.yaml", "--no-wait") == 0
    priced.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert lingbot("runs", "watch", "last") == 0
    (run_id,) = records.known()
    assert records.read(run_id)["status"] == "done"
    assert (cost_of(run_id)["prices"]["currency"], cost_of(run_id)["prices"]["cpu_hour"]) == ("EUR", 7.0)


def test_nodes_that_a_step_launches_are_paid_for(
    priced: Path, kubeflow: Kubeflow, lingbot: Lingbot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nodes.yaml").write_text("storage: {claim: shared}\nresources: {cpu: 64, gpus: 8}\n")
    asked = ("run", "--profile", "here.yaml", "--no-wait", "--set", "pretrain.nodes=2")
    assert lingbot(*asked, "--set", "pretrain.cluster=nodes.yaml") == 0
    (first,) = records.known()
    assert records.read(first)["jobs"]["pretrain"] == {"cores": 128.0, "gpus": {"nvidia.com/gpu": 16}}
    assert records.read(first)["jobs"]["finetune"] == {"cores": 0.0, "gpus": {}}
    capsys.readouterr()
    assert lingbot(*asked, "--set", "pretrain.cluster=of-the-image.yaml") == 0
    said = capsys.readouterr().out
    assert "what 'pretrain' launches will not be in the cost of the run: cannot read" in said
    assert lingbot("runs", "watch", "last") == 0


def test_a_record_of_before_that_knows_no_prices_is_read(priced: Path, lingbot: Lingbot, kubeflow: Kubeflow) -> None:
    assert lingbot("run", "--profile", "here.yaml", "--no-wait") == 0
    (run_id,) = records.known()
    record = records.read(run_id)
    records.save({key: value for key, value in record.items() if key not in ("prices", "jobs")} | {"schema_version": 1})
    assert lingbot("runs", "watch", "last") == 0
    assert cost_of(run_id)["prices"]["cpu_hour"] == 7.0
