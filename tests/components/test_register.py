"""The step `register`, with a real bundle, a real registry and real storage."""
# ruff: noqa: F811 - a fixture that is imported by name is also an argument

import json
import subprocess

import pytest

from components import state
from components.adapters import tracking
from components.artifacts import Artifact, Source, digest_of, hash_folder
from components.bundles import fetch_bundle, has_bundle, read_evaluation
from components.register import step
from components.register.lineage import git_commit, lineage_tags
from model.bundle import verify_bundle
from model.errors import UserError
from model.progress import Silent
from tests.registry_house import (  # noqa: F401
    bundles,
    evaluation,
    home,
    register,
    registry_template,
    write_inputs,
)


def test_the_bundle_is_stored_by_its_digest_and_registered(home, bundles, tmp_path):
    bundle = bundles[0]
    inputs, summary = register(tmp_path, bundle, evaluation(bundle.digest))
    version = tracking.get_version("lingbot-vla-aloha_sim", "1")
    assert summary["version"] == "1" and summary["bundle_digest"] == bundle.digest == version.digest
    assert verify_bundle(home / "bundles" / bundle.digest) == bundle.digest
    assert version.uri == (home / "bundles" / bundle.digest).as_uri()
    assert fetch_bundle(version.digest, version.uri) == home / "bundles" / bundle.digest
    assert version.tags["task"] == "lift_right" and version.tags["robot"] == "aloha_sim"
    stored = json.loads(read_evaluation(version.tags["evaluation_digest"]))
    assert stored["closed_loop"]["policy"]["successes"] == 80
    with tracking.connection() as client:
        assert client.get_run(version.run_id).data.metrics["closed_loop/policy/sr"] == 0.8
    written = json.loads((inputs["version"] / "version.json").read_text())
    assert written["version"] == "1" and written["bundle_digest"] == bundle.digest
    assert step.verify(inputs["version"])


def test_what_it_was_made_from_lies_beside_the_bundle_and_in_mlflow(home, bundles, tmp_path, monkeypatch):
    from components.provenance import provenance
    from components.provenance_files import read_beside_bundle, write_for_run

    write_for_run("the-run", provenance({"seed": 11}, threads=3))
    monkeypatch.setenv("LINGBOT_RUN_ID", "the-run")
    register(tmp_path, bundles[0], evaluation(bundles[0].digest))
    version = tracking.get_version("lingbot-vla-aloha_sim", "1")
    beside = read_beside_bundle(version.digest, version.tags["provenance_digest"])
    assert (beside["run"], beside["parameters"], beside["threads"]) == ("the-run", {"seed": 11}, 3)
    assert version.tags.get("dirty") == ("true" if beside["code"]["dirty"] else None)
    with tracking.connection() as client:
        downloaded = client.download_artifacts(version.run_id, "provenance.json", str(tmp_path))
    with open(downloaded) as file:
        assert json.load(file) == beside
    assert verify_bundle(home / "bundles" / version.digest) == version.digest


def test_a_second_run_is_the_same_version_and_the_same_bytes(home, bundles, tmp_path):
    bundle = bundles[0]
    inputs, first = register(tmp_path, bundle, evaluation(bundle.digest))
    content = (inputs["version"] / "version.json").read_bytes()
    _, second = register(tmp_path, bundle, evaluation(bundle.digest))
    assert second == first and (inputs["version"] / "version.json").read_bytes() == content
    assert str(home).encode() not in content  # the same on every machine
    _, other = register(tmp_path / "other", bundle, evaluation(bundle.digest, successes=81))
    assert other["version"] == "2"


def test_damaged_bundles_and_evaluations_of_others_are_refused(home, bundles, tmp_path):
    inputs = write_inputs(tmp_path, bundles[0], evaluation(bundles[1].digest))
    with pytest.raises(UserError, match="the evaluation is of bundle"):
        step.run(inputs, tmp_path, step.Parameters(), Silent())
    weights = inputs["policy"] / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"model\.safetensors has other bytes"):
        step.run(inputs, tmp_path, step.Parameters(), Silent())
    assert tracking.list_models() == ()


def test_a_lost_registry_or_bundle_is_noticed_and_made_again(home, bundles, tmp_path):
    bundle = bundles[0]
    inputs, _ = register(tmp_path, bundle, evaluation(bundle.digest))
    stored = home / "bundles" / bundle.digest / "config.json"
    stored.write_text("{}")
    assert not step.verify(inputs["version"])
    register(tmp_path, bundle, evaluation(bundle.digest))
    assert step.verify(inputs["version"])
    with tracking.connection() as client:
        client.delete_model_version("lingbot-vla-aloha_sim", "1")
    assert not step.verify(inputs["version"])


def test_storage_elsewhere_is_used_when_it_is_set(home, bundles, tmp_path, monkeypatch):
    monkeypatch.setenv("LINGBOT_STORAGE", str(tmp_path / "share"))
    bundle = bundles[0]
    _, summary = register(tmp_path, bundle, evaluation(bundle.digest))
    version = tracking.get_version(summary["model"], "1")
    assert version.uri == f"{tmp_path}/share/bundles/{bundle.digest}"
    assert not (home / "bundles").exists() and has_bundle(version.digest, version.uri)
    fetched = fetch_bundle(version.digest, version.uri)
    assert fetched == home / "bundles" / bundle.digest and verify_bundle(fetched) == bundle.digest


def test_model_names_are_checked():
    assert step.Parameters(model_name="lingbot-vla-arm.left_2").model_name
    for bad in ("other", "lingbot-vla-a/b", "lingbot-vla-a b"):
        with pytest.raises(UserError, match="register.model_name"):
            step.Parameters(model_name=bad)


def record(name, kind, inputs=(), **parameters):
    """A finished step in the state folder."""
    fingerprint = (name * 64)[:64]
    folder = state.step_folder(name, fingerprint) / "data"
    folder.mkdir(parents=True)
    (folder / "file").write_text(name)
    files = hash_folder(folder)
    made = Artifact(
        step=name,
        kind=kind,
        uri=f"steps/{name}/{fingerprint}/data",
        digest=digest_of(files),
        fingerprint=fingerprint,
        files=files,
        summary={},
        inputs={
            source.kind: Source(step=source.step, fingerprint=source.fingerprint, digest=source.digest)
            for source in inputs
        },
        parameters=parameters,
        sources={},
        code_version="c",
    )
    (folder.parent / "manifest.json").write_bytes(made.to_bytes())
    return made, folder


def test_lineage_reaches_back_to_the_dataset(home):
    collected, _ = record("collect", "dataset")
    packed, _ = record("pack", "packed", [collected])
    policy, folder = record("finetune", "policy", [packed])
    judged, other = record("evaluate", "evaluation", [policy, packed])
    tags = lineage_tags({"policy": folder, "evaluation": other})
    assert tags == {
        "dataset_digest": collected.digest,
        "dataset_uri": collected.uri,
        "step.collect": collected.fingerprint,
        "step.evaluate": judged.fingerprint,
        "step.finetune": policy.fingerprint,
        "step.pack": packed.fingerprint,
    }


def test_folders_given_by_hand_have_no_lineage(home, tmp_path):
    assert lineage_tags({"policy": tmp_path}) == {}


def test_the_commit_is_that_of_the_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        done = subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    monkeypatch.setattr(state, "checkout", lambda: tmp_path)
    monkeypatch.delenv("LINGBOT_COMMIT", raising=False)
    assert git_commit() is None
    monkeypatch.setenv("LINGBOT_COMMIT", "c" * 40)
    assert git_commit() == "c" * 40, "an image has no git"
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "x")
    head = git("rev-parse", "HEAD")
    assert git_commit() == head
    (tmp_path / "a").write_text("2")
    assert git_commit() == head + "-dirty"
