"""Finished steps that two machines share through S3: made once, fetched where they are read, every byte checked."""

import pytest

from components import records
from components.execution import execute
from model.errors import UserError
from tests.components.small_steps import make_step


def test_a_step_that_another_machine_finished_is_fetched_and_not_run(s3, monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_STORAGE", "s3://artefacts/pipelines")
    source, made = make_step("source")
    reader, read = make_step("reader", source="source")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "one"))
    artifact = execute(source, {}, {}, version="v1")
    assert artifact.uri == f"s3://artefacts/pipelines/steps/source/{artifact.fingerprint}/data"

    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "two"))
    assert execute(source, {}, {}, version="v1") == artifact
    execute(reader, {"source": artifact}, {}, version="v1")
    assert (made.ran, read.ran) == (1, 1)
    assert records.verify(artifact) == []
    assert records.data_folder("source", artifact.fingerprint).is_relative_to(tmp_path / "two")


def test_bytes_that_changed_in_the_bucket_are_not_read(s3, monkeypatch, tmp_path):
    monkeypatch.setenv("LINGBOT_STORAGE", "s3://artefacts/pipelines")
    source, _ = make_step("source")
    reader, read = make_step("reader", source="source")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "one"))
    artifact = execute(source, {}, {}, version="v1")
    key = f"pipelines/steps/source/{artifact.fingerprint}/data/a.txt"
    content = s3.client.get_object(Bucket="artefacts", Key=key)["Body"].read()
    s3.client.put_object(Bucket="artefacts", Key=key, Body=bytes([content[0] ^ 1]) + content[1:])

    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "two"))
    with pytest.raises(UserError, match=r"a\.txt"):
        execute(reader, {"source": artifact}, {}, version="v1")
    assert read.ran == 0
    assert not records.data_folder("source", artifact.fingerprint).exists()


def test_a_step_whose_upload_was_cut_off_is_not_finished_elsewhere(s3, monkeypatch, tmp_path):
    """The manifest goes last, so what another machine sees is whole."""
    monkeypatch.setenv("LINGBOT_STORAGE", "s3://artefacts/pipelines")
    source, made = make_step("source")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "one"))
    artifact = execute(source, {}, {}, version="v1")
    s3.client.delete_object(Bucket="artefacts", Key=f"pipelines/steps/source/{artifact.fingerprint}/manifest.json")
    monkeypatch.setenv("LINGBOT_HOME", str(tmp_path / "two"))
    assert records.load_artifact("source", artifact.fingerprint) is None
    assert execute(source, {}, {}, version="v1") == artifact
    assert made.ran == 2
