"""Does one small piece of an image's real work, inside of it: `python containers/smoke.py ROLE`.

The image's user runs it, without a network, and its root file system may be read-only.
"""

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path


def data() -> None:
    """A small dataset of numbers and noise goes through ingest, validate, annotate and pack."""
    _kfp_executor()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(scratch) / "dataset"
        _write_dataset(dataset)
        for step in ("ingest", "validate", "annotate", "pack"):
            _lingbot("step", step, "--preset", "debug", "--dataset", str(dataset))
    _lacks("torch", "mlflow", "mujoco")


def simulation() -> None:
    """The scripted expert collects demonstrations, rendered in software."""
    _kfp_executor()
    _lingbot("step", "collect", "--preset", "debug")
    _lacks("great_expectations", "mlflow", "dvc", "transformers")


def train() -> None:
    """The whole pipeline at its smallest preset: collected, trained, evaluated, registered."""
    _kfp_executor()
    _lingbot("run", "demonstrations_to_policy", "--preset", "debug")


def serve() -> None:
    """A bundle is made, served, and asked for actions over HTTP and websocket; SIGTERM ends the server with code 0."""
    from components.endpoint.check import check_served

    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        _lingbot("bundle", "create", str(bundle))
        answers = check_served(bundle=bundle)
    print(f"served {answers['model_name']}: {answers['websocket_ms']:.1f} ms a call over the websocket")
    _lacks("kfp", "dvc", "great_expectations", "mujoco", "pyarrow", "transformers", "pandas")


def mlflow() -> None:
    """The server, from the image's own folder: a version is registered and named, an artefact comes back."""
    with tempfile.TemporaryDirectory() as scratch:
        places = {
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{scratch}/mlflow.db",
            "MLFLOW_ARTIFACTS_DESTINATION": f"{scratch}/artifacts",
        }
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", "5000", "--workers", "2"]
        server = subprocess.Popen(command, env={**os.environ, **places})
        try:
            _wait_for("http://127.0.0.1:5000/health", server)
            _register("http://127.0.0.1:5000")
        finally:
            server.terminate()
            server.wait(30)
    importlib.import_module("psycopg2")
    importlib.import_module("boto3")
    _lacks("torch", "kfp", "dvc", "mujoco")


def _register(address: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(address)
    run = client.create_run(client.create_experiment("smoke")).info
    client.log_text(run.run_id, "kept", "note.txt")
    with tempfile.TemporaryDirectory() as fetched:
        assert Path(client.download_artifacts(run.run_id, "note.txt", fetched)).read_text() == "kept"
    client.create_registered_model("lingbot-vla-smoke")
    client.create_model_version("lingbot-vla-smoke", source="s3://bucket/bundles/00")
    client.set_registered_model_alias("lingbot-vla-smoke", "champion", "1")
    assert client.get_model_version_by_alias("lingbot-vla-smoke", "champion").source == "s3://bucket/bundles/00"


CHECKS = {"data": data, "simulation": simulation, "train": train, "serve": serve, "mlflow": mlflow}


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(180):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=2) as reply:
                assert reply.status == 200
                return
        except OSError:
            time.sleep(1)
    raise SystemExit(f"{address} did not answer within 3 minutes")


def _write_dataset(folder: Path) -> None:
    import numpy as np

    from model.data.lerobot_writer import LeRobotWriter
    from model.robots import load_robot

    robot = load_robot("aloha_sim")
    size, length, random = 64, 40, np.random.default_rng(0)
    writer = LeRobotWriter(
        folder,
        fps=10,
        robot_type=robot.id,
        state_names=robot.state_names,
        action_names=robot.action_names,
        cameras=dict.fromkeys(robot.cameras.values(), (size, size)),
        depth=False,
    )
    for _ in range(6):
        joints = 0.3 * np.sin(np.linspace(0, 3, length)[:, None] + random.uniform(0, 1, len(robot.state_names)))
        images = {
            name: random.integers(0, 255, (length, size, size, 3), dtype=np.uint8) for name in robot.cameras.values()
        }
        pose = np.tile(np.float32([0, 0, 0, 1, 0, 0, 0] * 2), (length, 1))
        writer.add_episode(
            task="lift the cube with the right arm",
            state=np.float32(joints),
            action=np.float32(joints),
            eef_pose=pose,
            images=images,
        )
    writer.finish()


def _lingbot(*arguments: str) -> None:
    subprocess.run(["lingbot", *arguments], check=True)


def _kfp_executor() -> None:
    """What Kubeflow starts in a step's container, of the image's own kfp."""
    subprocess.run([sys.executable, "-m", "kfp.dsl.executor_main", "--help"], check=True, stdout=subprocess.DEVNULL)


def _lacks(*packages: str) -> None:
    """Small images stay so: these packages are others' work."""
    present = [name for name in packages if importlib.util.find_spec(name)]
    if present:
        raise SystemExit(f"the image holds {', '.join(present)}, which its work does not need")


def main(role: str) -> int:
    if os.geteuid() == 0:
        raise SystemExit("the smoke test runs as root: an image's processes must not")
    CHECKS[role]()
    print(f"{role}: works")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
