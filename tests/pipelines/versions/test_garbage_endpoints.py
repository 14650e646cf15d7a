"""What endpoints leave in the state folder: records of processes that are gone, and the bundle of an offline start."""

import os
import shutil
import time
from pathlib import Path

import pytest

from components import state
from components.bundles import bundle_folder
from components.endpoint.last_served import remember
from components.routing_state import Target
from components.servings import GONE_AFTER_SECONDS, Serving, report_serving
from pipelines.versions.garbage import collect, plan_collection

MODEL = "lingbot-vla-house"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry_template: Path) -> None:
    (tmp_path / "home").mkdir()
    shutil.copy(registry_template, tmp_path / "home")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LINGBOT_STORAGE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pipelines.versions.garbage._of_tags", lambda: iter(()))


def reported(endpoint: str, seconds_ago: float) -> Path:
    report_serving(Serving(endpoint=endpoint, model=MODEL, alias="champion", version="1", digest="b" * 64, since="now"))
    (path,) = state.home().glob(f"endpoints/*/{endpoint}.json")
    then = time.time() - seconds_ago
    os.utime(path, (then, then))
    return path


def test_records_of_endpoints_that_are_gone_are_collected_and_of_those_that_serve_are_not() -> None:
    gone, serves = reported("gone", 2 * GONE_AFTER_SECONDS), reported("serves", 0)
    assert {item.kept for item in plan_collection(1)} == {"it serves", "written within 1 days"}
    removed = collect(plan_collection(0))
    assert [(item.kind, item.name.rpartition("/")[2]) for item in removed] == [("endpoint", "gone")]
    assert serves.exists() and not gone.exists()


def test_the_bundle_that_an_endpoint_would_start_on_stays() -> None:
    kept, loose = bundle_folder("b" * 64), bundle_folder("c" * 64)
    for folder in (kept, loose):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    remember(MODEL, "champion", Target(version="3", uri="u", digest=kept.name))
    (reason,) = [item.kept for item in plan_collection(0) if item.name == kept.name]
    assert reason == f"{MODEL}/3 was served last: an endpoint starts on it offline"
    collect(plan_collection(0))
    assert kept.exists() and not loose.exists()
