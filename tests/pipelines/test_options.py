"""The options of run, compile and step as parameters: what is wrong is said before data is fetched for it."""

import argparse
from pathlib import Path

import pytest

from model.errors import UserError
from pipelines.options import add_parameter_options, parameters_of

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


def test_paths_are_absolute_and_addresses_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parameters = parameters_of(given("--dataset", "s3://bucket/cubes", "--depth-checkpoint", "model.pt"))
    assert parameters.steps["ingest"]["dataset"] == "s3://bucket/cubes"
    assert parameters.steps["extract_depth_tokens"]["checkpoint"] == str(tmp_path / "model.pt")
