"""What a run cost: hours measured here or reserved on a cluster, bytes, and money from a price file."""

import json
from pathlib import Path
from typing import Any

import pytest

from components import state
from components.progress import progress_path
from model.errors import UserError
from pipelines.cost import Reserved, cost_here, cost_on_cluster, jobs_of, load_prices
from pipelines.profile import load_profile
from pipelines.report.cost import cost_sentence, cost_table, money

PRICES = """
currency: EUR
cpu_hour: 0.10
gpu_hours: {nvidia.com/gpu: 2.0, NVIDIA-H100-80GB-HBM3: 4.0}
storage_gb_month: 0.5
"""


@pytest.fixture
def prices(tmp_path: Path) -> Any:
    (tmp_path / "prices.yaml").write_text(PRICES)
    return load_prices(str(tmp_path / "prices.yaml"))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))


def wrote(run: str, step: str, *events: dict[str, Any]) -> None:
    path = progress_path(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def entry(name: str, status: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "status": status, "parameters": {}, **values}


def end(status: str, seconds: float, **values: Any) -> dict[str, Any]:
    return {"time": 0.0, "event": "end", "status": status, "seconds": seconds, **values}


def start(at: float = 0.0) -> dict[str, Any]:
    return {"time": at, "event": "start"}


def test_a_run_here_costs_what_its_processes_used(home: None, prices: Any) -> None:
    wrote("r", "collect", start(), end("done", 1800, cpu_seconds=7200, gpus=0))
    wrote("r", "pretrain", start(), end("done", 1800, cpu_seconds=3600, gpus=2))
    record = {"id": "r", "steps": [entry("collect", "done", bytes=10**9), entry("pretrain", "done", bytes=10**9)]}
    found = cost_here(record, prices, {})
    assert found["steps"][0] | {"made": None} == {
        "name": "collect", "status": "done", "cpu_hours": 2.0, "gpu_hours": {}, "money": 0.2, "made": None,
        "bytes": 10**9,
    }  # fmt: skip
    assert found["total"] == {"cpu_hours": 3.0, "gpu_hours": {"nvidia.com/gpu": 1.0}, "money": 2.3} == found["made"]
    assert found["storage"] == {"bytes": 2 * 10**9, "money_a_month": 1.0}
    assert cost_sentence(found) == "3.00 CPU hours, 1.00 GPU hours, about 2.30 EUR; 1.9 GiB kept, 1.00 EUR a month"


def test_attempts_that_failed_or_were_killed_cost_too(home: None, prices: Any) -> None:
    wrote(
        "r", "pack",
        start(), end("failed", 3600, cpu_seconds=3600, gpus=0),
        start(0.0), {"time": 1800.0, "event": "progress"},  # killed
        start(5000.0), end("done", 900, cpu_seconds=900, gpus=0),
    )  # fmt: skip
    found = cost_here({"id": "r", "steps": [entry("pack", "done")]}, prices, {})
    assert found["total"]["cpu_hours"] == 1 + 0.5 + 0.25


def test_a_reused_step_costs_nothing_now_and_says_what_it_cost(home: None, prices: Any) -> None:
    wrote("r", "pack", start(), end("cached", 0.5, cpu_seconds=0.5, gpus=0))
    made = {"seconds": 3600, "cpu_seconds": 7200, "gpus": 0}
    found = cost_here({"id": "r", "steps": [entry("pack", "cached", made_with=made)]}, prices, {})
    assert (found["total"]["money"], found["made"]["money"]) == (0.0, 0.2)
    assert cost_sentence(found).startswith("0 CPU hours, 0 GPU hours, about 0.00 EUR (with what it reused 0.20 EUR)")
    unknown = cost_here({"id": "r", "steps": [entry("pack", "cached")]}, prices, {})
    assert unknown["made"] is None


def test_pods_cost_what_they_reserve(prices: Any) -> None:
    profile = load_profile("h100")
    times = [("collect", "done", 3600.0), ("pretrain", "done", 1800.0), ("pack", "cached", 0.0)]
    found = cost_on_cluster(times, profile, prices, {}, {"collect": 10**9})
    assert found["storage"] == {"bytes": 10**9, "money_a_month": 0.5}
    collect, pretrain, pack = found["steps"]
    assert (collect["cpu_hours"], collect["money"]) == (32.0, 3.2)
    assert pretrain["gpu_hours"] == {"NVIDIA-H100-80GB-HBM3": 4.0} and pretrain["money"] == 56 * 0.1 + 4 * 4
    assert pack["cpu_hours"] == 0 and pack["made"] is None
    assert found["basis"] == "reserved"


def test_nodes_of_a_launched_job_cost_too(home: None, prices: Any, shared_settings: Path) -> None:
    jobs = jobs_of({"cluster": str(shared_settings), "nodes": 2})
    assert jobs == Reserved(cores=128.0, gpus={"nvidia.com/gpu": 16})
    wrote("r", "pretrain", start(), end("done", 3600, cpu_seconds=0, gpus=0))
    found = cost_here({"id": "r", "steps": [entry("pretrain", "done")]}, prices, {"pretrain": jobs})
    assert found["total"] == {"cpu_hours": 128.0, "gpu_hours": {"nvidia.com/gpu": 16.0}, "money": 44.8}


@pytest.fixture
def shared_settings(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text("storage: {claim: shared}\n")
    return path


def test_a_gpu_without_a_price_is_named_and_not_guessed(home: None, tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text(PRICES.replace("nvidia.com/gpu: 2.0, ", ""))
    wrote("r", "pretrain", start(), end("done", 3600, cpu_seconds=0, gpus=1))
    found = cost_here({"id": "r", "steps": [entry("pretrain", "done")]}, load_prices(str(tmp_path / "bare.yaml")), {})
    assert found["total"]["money"] is None and found["without_price"] == ["nvidia.com/gpu"]
    table = cost_table(found)
    assert table is not None and table.total.money == "not known" and "no price of nvidia.com/gpu" in table.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cpu_hour: -1", "cpu_hour of the prices is -1.0: it must be 0 or more"),
        ("cpu_hours: 1", r"unknown key of the prices .*'cpu_hours'.*Did you mean 'cpu_hour'"),
        ("gpu_hours: {a: -2}", "gpu_hours.a of the prices is -2.0"),
    ],
)
def test_prices_are_checked(tmp_path: Path, change: str, message: str) -> None:
    key = change.partition(":")[0].removesuffix("s") if change.startswith("cpu") else "gpu_hours"
    lines = [line for line in PRICES.splitlines() if not line.startswith(key)]
    (tmp_path / "prices.yaml").write_text("\n".join([*lines, change]))
    with pytest.raises(UserError, match=message):
        load_prices(str(tmp_path / "prices.yaml"))


def test_example_prices_cover_the_example_profiles() -> None:
    prices = load_prices()
    for name in ("cluster", "h100"):
        found = cost_on_cluster([("pretrain", "done", 60.0), ("pack", "done", 60.0)], load_profile(name), prices, {})
        assert not found["without_price"] and found["total"]["money"] > 0
    assert money(0.004, prices.currency) == "under 0.01 USD"


def test_a_step_writes_down_what_it_used(home: None) -> None:
    from components.execution import execute
    from components.records import read_timing
    from tests.components.small_steps import make_step

    def works(inputs: Any, output: Path, *_: Any) -> None:
        import subprocess
        import sys

        (output / "a.txt").write_text("x")
        subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)

    state.make_home()
    state.run_folder("r").mkdir(parents=True)
    step, _ = make_step("source", works)
    artifact = execute(step, {}, {}, "r", version="v1")
    events = [json.loads(line) for line in progress_path("r", "source").read_text().splitlines()]
    timing = read_timing("source", artifact.fingerprint)
    assert timing is not None
    assert 0.02 < timing["cpu_seconds"] == events[-1]["cpu_seconds"], "the child's time counts"
    assert events[-1]["event"] == "end" and events[-1]["gpus"] == timing["gpus"]
