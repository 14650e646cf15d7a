"""The real openpi-client 0.1.2 from the package index runs an episode, in an environment of its own (numpy 1)."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "openpi_episode.py"
PINNED = ("openpi-client==0.1.2", "numpy<2", "typing-extensions")  # the last it imports and does not declare
STEPS = 100


@pytest.fixture(scope="session")
def openpi_python(tmp_path_factory):
    """A Python with openpi-client, made here, or named by LINGBOT_OPENPI_PYTHON."""
    named = os.environ.get("LINGBOT_OPENPI_PYTHON")
    if named:
        return named
    folder = tmp_path_factory.mktemp("openpi")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", *PINNED], check=True)
    return str(python)


@pytest.mark.soak
def test_the_real_openpi_client_runs_an_episode(openpi_python, start, bundle, capsys):
    where = start(bundle)
    port, cameras = where.host.rpartition(":")[2], [camera["name"] for camera in bundle.contract["cameras"]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [openpi_python, str(SCRIPT), port, str(STEPS), *cameras]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["numpy"].startswith("1.") and found["versions"] == ["7"]
    assert found["looks"] == STEPS // 10, "its broker plays ten steps of a chunk"
    actions = np.asarray(found["actions"])
    assert actions.shape == (STEPS, 14) and np.isfinite(actions).all()
    assert found["chunk"] == [bundle.contract["horizon"], 14]
    assert "Error in inference server" in found["refusal"] and "is missing: send" in found["refusal"]
    beside = [all_of - model for all_of, model in zip(found["milliseconds"], found["infer_ms"], strict=True)]
    with capsys.disabled():
        print(
            f"\nopenpi-client 0.1.2, numpy {found['numpy']}: {STEPS} steps, {found['looks']} looks, "
            f"{statistics.median(found['milliseconds']):.1f} ms a look, "
            f"{statistics.median(beside):.1f} of it beside the model"
        )
