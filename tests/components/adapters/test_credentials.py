"""Credentials that a run works with are nowhere in what it leaves: records, logs, artefacts, what it compiles."""

import json
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components import execution, state
from components.execution import execute
from components.provenance import provenance
from components.provenance_files import write_for_run
from pipelines.compile import compile_pipeline
from pipelines.parameters import load_parameters
from pipelines.profile import load_profile
from tests.components.small_steps import make_step

# Drawn, because the record of a changed checkout holds its changes, and with them this file.
SECRETS = {
    name: f"secret-{secrets.token_hex(8)}"
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "KFP_TOKEN")
}


def everything(folder: Path, s3: Any) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
    for item in s3.client.list_objects_v2(Bucket="artefacts").get("Contents", []):
        found = s3.client.get_object(Bucket="artefacts", Key=item["Key"])
        yield item["Key"], found["Body"].read() + json.dumps(found["Metadata"]).encode() + item["Key"].encode()


def test_credentials_are_in_nothing_that_is_left(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LINGBOT_STORAGE", "s3://artefacts/pipelines")
    command = ["lingbot", "run", "--token", SECRETS["KFP_TOKEN"], "--set", f"a.password={SECRETS['KFP_TOKEN']}"]
    monkeypatch.setattr("sys.argv", [*command, f"https://me:{SECRETS['MLFLOW_TRACKING_PASSWORD']}@mlflow.example"])
    state.make_home()
    run_id = state.new_run_id()
    state.run_folder(run_id).mkdir(parents=True)
    parameters = load_parameters()
    write_for_run(run_id, provenance(parameters.to_json()))

    def fails(inputs: Mapping[str, Path], *_: Any) -> None:
        raise RuntimeError(f"401 for {list(SECRETS.values())}")

    source, _ = make_step("source")
    reader, _ = make_step("reader", fails, source="source")
    artifact = execute(source, {}, {}, run_id, version="v1")
    with pytest.raises(RuntimeError) as caught:
        execute(reader, {"source": artifact}, {}, run_id, version="v1")
    execution.report("reader", caught.value, run_id)
    with ThreadPoolExecutor(1) as pool:  # kfp reads the whole stack for every option of a task, and pytest's is deep
        pool.submit(compile_pipeline, parameters, load_profile("cluster"), tmp_path / "compiled").result()

    written = capfd.readouterr()
    left = [*everything(tmp_path, s3), ("output", written.out.encode()), ("errors", written.err.encode())]
    assert len(left) > 10 and any("401 for" in content.decode(errors="replace") for _, content in left)
    for secret in SECRETS.values():
        assert [name for name, content in left if secret.encode() in content] == []
