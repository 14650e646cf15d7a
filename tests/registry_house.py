"""A home with a real registry in it, for tests of what registers, promotes and serves.

Import the fixtures by name: `home`, `bundles` (and what they need).
"""

import json
import shutil
from pathlib import Path

import pytest

from model.evaluation.leakage import digest_of_seeds
from model.evaluation.scoring import wilson
from model.progress import Silent


@pytest.fixture(scope="session")
def registry_template(tmp_path_factory):
    """A registry with its tables made: MLflow takes seconds for that, so each test gets a copy."""
    from components.adapters import tracking

    # pytest has a fixture of this name for each module that imports it; the tables are made once a process.
    folder = tmp_path_factory.getbasetemp() / "registry_template"
    if not folder.exists():
        making = tmp_path_factory.mktemp("registry")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LINGBOT_HOME", str(making))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            assert tracking.list_models() == ()
        making.rename(folder)
    return folder / "mlflow.db"


@pytest.fixture
def home(tmp_path, monkeypatch, registry_template):
    """LINGBOT_HOME of its own, with an empty registry."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(registry_template, folder / "mlflow.db")
    monkeypatch.setenv("LINGBOT_HOME", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "LINGBOT_STORAGE", "LINGBOT_RUN_ID", "LINGBOT_API_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Three real bundles of different weights."""
    from model.bundle import create_bundle

    folder = tmp_path_factory.mktemp("bundles")
    return [create_bundle(folder / str(seed), preset="debug", seed=seed) for seed in range(3)]


def evaluation(digest, successes=80, trials=100, *, mean=10, untrained=0, blank=0, task="lift_right"):
    """What `evaluate` writes, as far as registration and the gate read it."""

    def figures(count):
        low, high = wilson(count, trials)
        return {"trials": trials, "successes": count, "sr": count / trials, "sr_low": low, "sr_high": high, "ps": 0.5}

    difference = (successes - mean) / trials
    return {
        "schema_version": 1,
        "robot": "aloha_sim",
        "task": task,
        "bundle_digest": digest,
        "closed_loop": {
            "policy": figures(successes),
            "mean_replay": figures(mean),
            "untrained": figures(untrained),
            "blank_images": figures(blank),
        },
        "closed_loop_reason": None,
        "leakage": {
            "evaluation_seeds": [[0, trials - 1]],
            "training_seeds": [[1_000_000, 1_000_239]],
            "training_episodes": 228,
            "shared_episodes": [],
        },
        "digests": {"evaluation_seeds": digest_of_seeds(range(trials))},
        "paired": {"vs_mean_replay": {"difference": difference, "low": difference - 0.1, "high": difference + 0.1}},
    }


def write_inputs(folder: Path, bundle, values, trials: bytes | None = None) -> dict[str, Path]:
    """The folders that `register` reads; `trials` are the bytes of trials.jsonl."""
    policy, judged = folder / "policy", folder / "evaluation"
    shutil.copytree(bundle.path, policy / "bundle", dirs_exist_ok=True)
    judged.mkdir(parents=True, exist_ok=True)
    (judged / "evaluation.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    if trials is not None:
        (judged / "trials.jsonl").write_bytes(trials)
    return {"policy": policy, "evaluation": judged}


def register(folder: Path, bundle, values, trials: bytes | None = None) -> tuple[dict[str, Path], dict]:
    """Runs the step `register`; returns the inputs of `promote` and the summary."""
    from components.register import step

    inputs = write_inputs(folder, bundle, values, trials)
    output = folder / "version"
    output.mkdir(exist_ok=True)
    summary = step.run(inputs, output, step.Parameters(), Silent())
    return {"version": output, "evaluation": inputs["evaluation"]}, summary


def promote(folder: Path, inputs: dict[str, Path], **parameters) -> dict:
    """Runs the step `promote`; returns its summary."""
    from components.promote import step

    output = folder / "promotion"
    output.mkdir(exist_ok=True)
    return step.run(inputs, output, step.Parameters(**parameters), Silent())


def register_and_promote(folder: Path, bundle, values) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    inputs, _ = register(folder, bundle, values)
    return promote(folder, inputs)
