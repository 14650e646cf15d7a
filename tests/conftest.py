"""Fixtures that every test folder uses."""

import os
from pathlib import Path

import hypothesis
import pytest

# The same examples in each run, and no limit of time on one: a machine that stalls, or a rare example, fails no run.
# `--hypothesis-profile=default` looks for others.
hypothesis.settings.load_profile("ci")

# Telemetry stays off, and nothing may ask a model hub.
os.environ.update(
    GX_ANALYTICS_ENABLED="false",
    DVC_NO_ANALYTICS="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: two workers take a file each, and the last files of a run are to be short."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def shared() -> Path:
    """The folder of reference data beside the checkout; skips only where there is none, what it lacks fails."""
    if not SHARED.is_dir():
        pytest.skip("the reference data (../shared) is not beside this checkout")
    return SHARED
