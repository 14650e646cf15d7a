"""The options of run, compile and step as parameters: what is wrong is said before data is fetched for it."""

import argparse
from pathlib import Path

import pytest

from model.errors import UserError
from pipelines.cli import main
from pipelines.options import add_parameter_options, parameters_of
from pipelines.parameters import RunParameters

TAG = "data/cubes-v1"


def given(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parameter_options(parser)
    return parser.parse_args(arguments)


def test_the_data_of_a_tag_is_where_it_was_fetched_to() -> None:
    fetched: list[str] = []

    def fetch(tag: str) -> str:
        fetched.append(tag)
        return "s3://bucket/datasets/d"

    parameters = parameters_of(given("--from-tag", TAG, "--preset", "debug", "--set", "seed=3"), fetch)
    assert fetched == [TAG]
    assert parameters.steps["ingest"]["dataset"] == "s3://bucket/datasets/d"
    assert (parameters.preset, parameters.seed) == ("debug", 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--set", "pretrain.stesp=1"), "Did you mean 'steps'"),
        (("--preset", "debgu"), "Did you mean 'debug'"),
        (("--params", "nowhere.yaml"), "cannot read nowhere.yaml"),
        (("--dataset", "cubes"), "both name the data: give one of them"),
    ],
)
def test_nothing_is_fetched_for_what_is_wrong(wrong: tuple[str, str], said: str) -> None:
    def fetch(tag: str) -> str:
        raise AssertionError(f"{tag} was fetched")

    with pytest.raises(UserError, match=said):
        parameters_of(given("--from-tag", TAG, *wrong), fetch)


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["run", "--profile", "cluster"], "pipelines.cluster.run.ClusterRun"),
        (["compile", "study", "--profile", "cluster"], "pipelines.compile.compile_pipeline"),
        (["runs", "schedule", "--profile", "cluster", "--cron", "0 3 * * *"], "pipelines.cluster.schedule.add"),
        (["run"], "pipelines.run.LocalRun"),
        (["compile", "study", "--profile", "laptop"], "pipelines.compile.compile_pipeline"),
    ],
)
def test_the_data_of_a_tag_is_where_the_steps_of_the_profile_read_it(
    command: list[str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(Exception):
        pass

    def tell(*given: object, **options: object) -> None:
        raise Told(next(value for value in given if isinstance(value, RunParameters)).steps["ingest"]["dataset"])

    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("pipelines.cluster.staging.stage_release", lambda tag, profile: f"s3://{profile.name}/{tag}")
    monkeypatch.setattr("pipelines.versions.tags.fetch_dataset", lambda tag: Path("/fetched") / tag)
    monkeypatch.setattr("pipelines.commands.run.data_of", lambda args: None)
    monkeypatch.setattr(place, tell)
    allowed = ["--allow-tags"] if "cluster" in command else []
    with pytest.raises(Told, match="^s3://cluster/data/cubes-v1$" if allowed else "^/fetched/data/cubes-v1$"):
        main([*command, *allowed, "--from-tag", TAG])


def test_paths_are_absolute_and_addresses_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = parameters_of(given("--dataset", "s3://bucket/cubes", "--depth-checkpoint", "model.pt"))
    assert parameters.steps["ingest"]["dataset"] == "s3://bucket/cubes"
    assert parameters.steps["extract_depth_tokens"]["checkpoint"] == str(tmp_path / "model.pt")
