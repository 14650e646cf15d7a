"""Registered bundles in a bucket: fetched by their manifest's digests, and damage never becomes a local bundle."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import multiprocessing
import shutil

import pytest

from components.bundles import bundle_folder, fetch_bundle, has_bundle, keep_bundle, load_registered
from model.bundle_files import verify_bundle
from model.errors import UserError
from tests.registry_house import bundles, home, registry_template  # noqa: F401

PLACE = "s3://artefacts/pipelines"


@pytest.fixture
def stored(s3, home, bundles, monkeypatch):
    """Digest and URI of a bundle in the bucket, and nothing of it here."""
    monkeypatch.setenv("LINGBOT_STORAGE", PLACE)
    digest, uri = keep_bundle(bundles[0].path)
    assert uri == f"{PLACE}/bundles/{digest}" and not bundle_folder(digest).exists()
    return digest, uri


def change(s3, digest, name, change):
    key = f"pipelines/bundles/{digest}/{name}"
    content = s3.client.get_object(Bucket="artefacts", Key=key)["Body"].read()
    s3.client.put_object(Bucket="artefacts", Key=key, Body=change(content))


def flip(content):
    return bytes([content[0] ^ 1]) + content[1:]


def test_it_is_fetched_whole_and_once(stored, s3):
    digest, uri = stored
    assert has_bundle(digest, uri) and has_bundle(digest, uri, deep=True)
    assert verify_bundle(fetch_bundle(digest, uri), digest=digest) == digest
    s3.requests.clear()
    fetch_bundle(digest, uri)
    assert s3.requests == []


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "robot.yaml"])
def test_changed_bytes_in_the_bucket_do_not_arrive(stored, s3, name):
    digest, uri = stored
    change(s3, digest, name, flip)
    assert not has_bundle(digest, uri, deep=True)
    assert has_bundle(digest, uri) == (name != "manifest.json"), "a flipped byte of the same size takes reading it"
    with pytest.raises(UserError, match="not the bundle|was changed|has sha256"):
        fetch_bundle(digest, uri)
    assert not bundle_folder(digest).exists()


@pytest.mark.parametrize("fault", ["gone", "shorter", "extra"])
def test_what_does_not_fit_the_manifest_is_told_without_reading_it(stored, s3, fault):
    digest, uri = stored
    if fault == "gone":
        s3.client.delete_object(Bucket="artefacts", Key=f"pipelines/bundles/{digest}/robot.yaml")
    elif fault == "shorter":
        change(s3, digest, "robot.yaml", lambda content: content[:-1])
    else:
        s3.client.put_object(Bucket="artefacts", Key=f"pipelines/bundles/{digest}/run.py", Body=b"x")
    assert not has_bundle(digest, uri)


def test_a_local_copy_that_is_not_whole_is_fetched_again(stored, s3):
    digest, uri = stored
    folder = fetch_bundle(digest, uri)
    (folder / "robot.yaml").unlink()
    (folder / "notes.md").write_text("mine")
    assert verify_bundle(fetch_bundle(digest, uri), digest=digest)
    shutil.rmtree(folder)
    s3.client.delete_object(Bucket="artefacts", Key=f"pipelines/bundles/{digest}/manifest.json")
    with pytest.raises(UserError, match="nothing is stored at"):
        fetch_bundle(digest, uri)


def test_a_local_copy_with_a_flipped_bit_is_fetched_again_to_be_served(stored, s3, caplog):
    digest, uri = stored
    weights = fetch_bundle(digest, uri) / "model.safetensors"
    weights.write_bytes(flip(weights.read_bytes()))
    s3.requests.clear()
    assert load_registered(digest, uri).digest == digest
    assert "model.safetensors has other bytes" in caplog.text and f"is fetched from {uri}" in caplog.text
    assert verify_bundle(bundle_folder(digest), digest=digest)
    fetched = [request for request in s3.requests if request.startswith("GET") and "/bundles/" in request]
    assert sum("model.safetensors" in request for request in fetched) == 1
    assert not any("robot.yaml" in request for request in fetched), "what is whole stays"
    weights.write_bytes(flip(weights.read_bytes()))
    change(s3, digest, "model.safetensors", flip)
    with pytest.raises(UserError, match="was changed|has sha256"):
        load_registered(digest, uri)


def test_processes_that_ask_at_once_get_one_whole_bundle(stored, s3):
    """Two server processes of one machine that follow the same alias."""
    s3.requests.clear()
    processes = [multiprocessing.get_context("spawn").Process(target=fetch_bundle, args=stored) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert verify_bundle(bundle_folder(stored[0]), digest=stored[0])
    assert sum(request.startswith("GET") and request.endswith("/config.json") for request in s3.requests) == 1
